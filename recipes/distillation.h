/*
 * Self-distillation without labels, as DINO and iBOT have it in common (Caron et al. 2021, arXiv 2104.14294; Zhou et al.
 * 2022, arXiv 2111.07832): the views, the networks, the teacher's targets with what keeps them from collapsing, and the
 * loss of the class tokens. Not installed.
 *
 * Shapes: B images; two global and L local crops of each, stacked view by view; K class prototypes.
 */
#ifndef TSR_DISTILLATION_H
#define TSR_DISTILLATION_H

#include "recipes/recipes.h"

#include <stddef.h>

/* What the teacher's logits go through besides the softmax. */
enum { TSR_CENTERING_CENTER = 0, TSR_CENTERING_SINKHORN };

/* A recipe's struct of options begins with these, and its table with the rows below. */
typedef struct tsr_distillation {
    int64_t out_dim, head_hidden, head_bottleneck;
    bool norm_last_layer;
    int64_t local_crops, local_size;
    tsr_list global_scale, local_scale;
    double student_temp, warmup_teacher_temp, teacher_temp;
    int64_t warmup_teacher_temp_epochs;
    int centering;
    double center_momentum;
    double drop_path;
    int64_t freeze_last_layer;
    double jitter, blur; /* strengths, relative to the published augmentation */
} tsr_distillation;

#define TSR_DISTILLATION_AT(field) offsetof(tsr_distillation, field)

/* Defaults and sources are iBOT's. */
/* clang-format off */
#define TSR_DISTILLATION_OPTIONS                                                                   \
    {"out-dim", TSR_OPTION_INT, TSR_DISTILLATION_AT(out_dim), "8192", 2, 1 << 20, NULL,            \
     "K: prototypes of the class token", "main_ibot.py --out_dim"},                                \
    {"head-hidden", TSR_OPTION_INT, TSR_DISTILLATION_AT(head_hidden), "2048", 1, 1 << 16, NULL,    \
     "width of the head's hidden layers", "head.py iBOTHead"},                                     \
    {"head-bottleneck", TSR_OPTION_INT, TSR_DISTILLATION_AT(head_bottleneck), "256", 1, 1 << 16,   \
     NULL, "width of the head's bottleneck", "head.py iBOTHead"},                                  \
    {"norm-last-layer", TSR_OPTION_BOOL, TSR_DISTILLATION_AT(norm_last_layer), "false", 0, 0, NULL,\
     "keep the prototypes' norms at 1: steadier, for large models", "published ViT-S recipe"},     \
    {"local-crops", TSR_OPTION_INT, TSR_DISTILLATION_AT(local_crops), "10", 0, 64, NULL,           \
     "L: small crops an image", "published recipes"},                                              \
    {"local-size", TSR_OPTION_INT, TSR_DISTILLATION_AT(local_size), "96", 4, 4096, NULL,           \
     "pixels a side of a small crop", "loader.py DataAugmentationiBOT"},                           \
    {"global-scale", TSR_OPTION_LIST, TSR_DISTILLATION_AT(global_scale), "0.25,1", 0, 1, NULL,     \
     "share of the image that a global crop covers, from,to", "published recipes"},                \
    {"local-scale", TSR_OPTION_LIST, TSR_DISTILLATION_AT(local_scale), "0.05,0.25", 0, 1, NULL,    \
     "share of the image that a small crop covers, from,to", "published recipes"},                 \
    {"student-temp", TSR_OPTION_DOUBLE, TSR_DISTILLATION_AT(student_temp), "0.1", 1e-3, 10, NULL,  \
     "temperature of the student's softmax", "iBOTLoss"},                                          \
    {"warmup-teacher-temp", TSR_OPTION_DOUBLE, TSR_DISTILLATION_AT(warmup_teacher_temp), "0.04",   \
     1e-3, 10, NULL, "temperature of the teacher's class softmax at the start; lower it when the " \
     "loss does not fall", "main_ibot.py"},                                                        \
    {"teacher-temp", TSR_OPTION_DOUBLE, TSR_DISTILLATION_AT(teacher_temp), "0.07", 1e-3, 10, NULL, \
     "and after the warm-up", "published recipes"},                                                \
    {"warmup-teacher-temp-epochs", TSR_OPTION_INT,                                                 \
     TSR_DISTILLATION_AT(warmup_teacher_temp_epochs), "30", 0, 1e6, NULL,                          \
     "epochs of the temperatures' warm-up", "main_ibot.py"},                                       \
    {"centering", TSR_OPTION_CHOICE, TSR_DISTILLATION_AT(centering), "center", 0, 0,               \
     "center sinkhorn", "what keeps the teacher from few prototypes: a moving centre, or three "   \
     "rounds of Sinkhorn-Knopp over the batch, which then takes no --micro-batch",                 \
     "iBOTLoss; SwAV, section 3.1, and DINOv2"},                                                   \
    {"center-momentum", TSR_OPTION_DOUBLE, TSR_DISTILLATION_AT(center_momentum), "0.9", 0, 1, NULL,\
     "moving average of the class centre", "iBOTLoss"},                                            \
    {"drop-path", TSR_OPTION_DOUBLE, TSR_DISTILLATION_AT(drop_path), "0.1", 0, 0.99, NULL,         \
     "rate of stochastic depth in the student's last block", "main_ibot.py --drop_path"},          \
    {"freeze-last-layer", TSR_OPTION_INT, TSR_DISTILLATION_AT(freeze_last_layer), "1", 0, 1e6, NULL,\
     "epochs during which the prototypes stay as they are; more when the loss does not fall",      \
     "main_ibot.py --freeze_last_layer"},                                                          \
    {"jitter", TSR_OPTION_DOUBLE, TSR_DISTILLATION_AT(jitter), "1", 0, 2, NULL,                    \
     "strength of the colour jitter, relative to the published one", NULL},                        \
    {"blur", TSR_OPTION_DOUBLE, TSR_DISTILLATION_AT(blur), "1", 0, 4, NULL,                        \
     "strength of the blur, relative to the published one; smaller for small images", NULL}
/* clang-format on */

/* Two global crops and, in one spec, the local ones (loader.py, main_dino.py): returns how many specs, or -1. */
int tsr_distillation__views(const tsr_build *build, const tsr_distillation *o,
                            tsr_view_spec *specs);
/* Student or teacher. head: what the options above leave open. NULL on failure. */
tsr_multi_crop *tsr_distillation__network(const tsr_build *build, const tsr_distillation *o,
                                          bool is_student, bool masked, tsr_head_config head);
/* Owns both, and starts them: the student at random, the teacher as its copy, without gradients. */
tsr_status tsr_distillation__start(const tsr_build *build, const tsr_distillation *o,
                                   tsr_multi_crop *student, tsr_multi_crop *teacher,
                                   tsr_networks *n);
/* The teacher's temperature, by epoch. */
tsr_schedule_warmup tsr_distillation__temperature(const tsr_distillation *o);

/* The teacher's answers to R rows: softmax((logits - center) / temperature), logits [R, K], center [K]. No gradient. */
typedef struct tsr_soft_target {
    tsr_tensor *logits, *center;
    double temperature;
} tsr_soft_target;

/* center [..., K]: the one kept, which Sinkhorn-Knopp replaces by that of these rows. */
tsr_soft_target tsr_distillation__target(const tsr_distillation *o, tsr_tensor *logits,
                                         tsr_tensor *center, double temperature);
/* Written out, [R, K]: for who looks at it. */
tsr_tensor *tsr_distillation__probabilities(tsr_soft_target target);
/*
 * Sinkhorn-Knopp (Cuturi 2013; SwAV, Caron et al. 2020, section 3.1; DINOv2): exp(logits / temperature) [R, K], three times
 * scaled so that each prototype has R / K of the rows' mass, then each row sums to 1. That is a softmax with a centre of
 * these rows' own, which is returned, [1, K]. In logarithms, so that nothing overflows.
 */
tsr_tensor *tsr_distillation__sinkhorn(tsr_tensor *logits, double temperature);
/* C <- m C + (1 - m) mean of the teacher's logits, after the step that used the old one. */
void tsr_distillation__move_center(tsr_tensor *center, double momentum, tsr_tensor *mean);

/* The mean over all pairs of views of the cross entropy of student [(2 + L) B, K] logits and the teacher's answers to the
 * 2 B global crops: every student view answers every teacher view but its own (DINO, equation 3; iBOT, equation 1). */
tsr_tensor *tsr_distillation__class_loss(const tsr_distillation *o, tsr_tensor *student,
                                         tsr_soft_target teacher);
/* Does the parameter take part: prototypes wait for freeze_last_layer epochs (utils.cancel_gradients_last_layer). */
bool tsr_distillation__trains(const tsr_distillation *o, const char *parameter, int64_t epoch);
/* What the health monitor asks of every step that it looks at. */
void tsr_distillation__look(const tsr_distillation *o, tsr_step *step, tsr_tensor *student,
                            tsr_soft_target teacher);

#endif
