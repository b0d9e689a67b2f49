/* The program as a user meets it: what it prints, what it writes, its exit status. */
#include "tests/recipes/data/files.h"

#include "recipes/eval/features.h"
#include "recipes/recipes.h"

#include <sys/wait.h>

static char text[1 << 18]; /* what the last run printed */

#define SMALL                                                                                      \
    " --image-size 8 --patch-size 4 --dim 16 --depth 3 --heads 2 --out-dim 16 --patch-out-dim 16"  \
    " --head-hidden 16 --head-bottleneck 8 --local-crops 2 --local-size 4 --batch 8 --epochs 1"

/* A shell command, in which $t is the program and $d the test's folder. Its exit status; text holds what it printed. */
static int shell(const char *command)
{
    setenv("t", getenv("TSR_PROGRAM"), 1);
    setenv("d", test_folder, 1);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = fread(text, 1, sizeof text - 1, pipe);
    text[n] = '\0';
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

/* tessera with these arguments; errors go to text too. */
static int run(const char *arguments)
{
    char command[2048];
    snprintf(command, sizeof command, "\"$t\" %s 2>&1", arguments);
    return shell(command);
}

#define assert_run(arguments, status)                                                              \
    do {                                                                                           \
        int got_ = run(arguments);                                                                 \
        if (got_ != (status)) fail_msg("%s: exit status %d:\n%s", arguments, got_, text);          \
    } while (0)

#define assert_says(wanted)                                                                        \
    do {                                                                                           \
        if (strstr(text, wanted) == NULL) fail_msg("no \"%s\" in:\n%s", wanted, text);             \
    } while (0)

static int lines(void)
{
    int n = 0;
    for (const char *p = text; *p != '\0'; p++) n += *p == '\n';
    return n;
}

/* The numbers after a row's name. */
static int row_numbers(const char *name, double *numbers, int max)
{
    const char *p = strstr(text, name);
    if (p == NULL) fail_msg("no row \"%s\" in:\n%s", name, text);
    p += strlen(name);
    int n = 0;
    while (n < max) {
        char *end;
        double x = strtod(p, &end);
        if (end == p || memchr(p, '\n', (size_t)(end - p)) != NULL) break;
        numbers[n++] = x;
        p = end;
    }
    return n;
}

/* Two parts of an IDX set in $d/data, a run of six steps in $d/run. */
static int make_run(void **state)
{
    (void)state;
    strcpy(test_folder, "/tmp/tessera-cli-XXXXXX");
    if (mkdtemp(test_folder) == NULL) return 1;
    make_folder("data");
    write_idx("data/train", 48, 4);
    write_idx("data/t10k", 16, 4);
    assert_run("pretrain ibot --data $d/data --out $d/run" SMALL, 0);
    return 0;
}

static int remove_run(void **state)
{
    (void)state;
    return nftw(test_folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *const commands[] = {"pretrain ibot", "plan ibot", "data ibot",   "knn",
                                       "linear",        "features",  "attention",   "inspect",
                                       "gradcheck",     "recipes",   "diff-recipe", "import",
                                       "export",        "cluster",   "finetune"};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

/* ---- help ---- */

static void test_cli__help_lists_every_command(void **state)
{
    (void)state;
    assert_run("--help", 0);
    for (int i = 0; i < COMMANDS; i++) {
        char line[64];
        snprintf(line, sizeof line, "\n  %.*s ", (int)strcspn(commands[i], " "), commands[i]);
        assert_says(line);
    }
    assert_run("", 2);
    assert_run("--version", 0);
    assert_int_equal(strncmp(text, "tessera ", 8), 0);
}

static void test_cli__every_command_explains_itself(void **state)
{
    (void)state;
    for (int i = 0; i < COMMANDS; i++) {
        char arguments[64];
        snprintf(arguments, sizeof arguments, "%s --help", commands[i]);
        assert_run(arguments, 0);
        assert_int_equal(strncmp(text, "Usage: tessera ", 15), 0);
        assert_says("\n  --threads N");
        assert_says("\n  --help");
        char example[64];
        snprintf(example, sizeof example, "\nExample:\n  tessera %s", commands[i]);
        assert_says(example);
    }
}

static void test_cli__help_has_every_option_of_a_recipe(void **state)
{
    (void)state;
    int n_recipes, n_train;
    const tsr_recipe *const *recipes = tsr_recipes(&n_recipes);
    const tsr_option *train = tsr_train_option_table(&n_train);
    static const char *const with_tables[] = {"pretrain", "plan", "data"};
    for (int i = 0; i < n_recipes * 3; i++) {
        const tsr_recipe *r = recipes[i / 3];
        char arguments[64];
        snprintf(arguments, sizeof arguments, "%s %s --help", with_tables[i % 3], r->name);
        assert_run(arguments, 0);
        for (int k = 0; k < n_train + r->n_options; k++) {
            const tsr_option *o = k < n_train ? &train[k] : &r->options[k - n_train];
            char flag[96];
            snprintf(flag, sizeof flag, "\n  --%s ", o->name);
            assert_says(flag);
            assert_says(o->meaning);
        }
        for (int k = 0; k < r->n_presets; k++) assert_says(r->presets[k].name);
    }
}

static void test_cli__recipes_lists_papers_and_presets(void **state)
{
    (void)state;
    int n;
    const tsr_recipe *const *recipes = tsr_recipes(&n);
    assert_run("recipes", 0);
    for (int i = 0; i < n; i++) {
        assert_says(recipes[i]->title);
        assert_says(recipes[i]->paper);
        for (int k = 0; k < recipes[i]->n_presets; k++) {
            assert_says(recipes[i]->presets[k].name);
            assert_says(recipes[i]->presets[k].meaning);
        }
    }
}

static void test_cli__diff_recipe_prints_only_what_differs(void **state)
{
    (void)state;
    assert_run("diff-recipe ibot dino", 0);
    assert_says("\nrecipe                       ibot                     dino\n");
    assert_says("\nout-dim                      8192                     65536\n");
    assert_says("\nlambda2                      1                        -\n");
    assert_null(strstr(text, "\nwarmup-epochs"));
    assert_run("diff-recipe dino dino:boosted", 0);
    assert_says("\nteacher-temp                 0.04                     0.07\n");
    assert_null(strstr(text, "\nout-dim"));
    assert_run("diff-recipe ibot ibot", 0);
    assert_says("\nno option differs\n");
    /* A run, and its checkpoint: six steps of SMALL options. */
    assert_run("diff-recipe ibot $d/run", 0);
    assert_says("\nimage-size                   224                      8\n");
    assert_null(strstr(text, "\nrecipe"));
    assert_run("diff-recipe $d/run $d/run/checkpoint-00000006.tsr", 0);
    assert_says("\nno option differs\n");
    assert_run("diff-recipe ibot nosuch", 1);
    assert_says("is no recipe, RECIPE:PRESET, directory of a run or checkpoint");
    assert_run("diff-recipe ibot ibot:nosuch", 1);
    assert_says("ibot has no preset \"nosuch\"");
}

/* A preset's --help says what was published. */
static void test_cli__help_tells_published_values_and_their_sources(void **state)
{
    (void)state;
    assert_run("pretrain mae --help", 0);
    assert_says("[paper, table 8]\n");
    assert_says("\n  --beta2 0.95 ");
    assert_run("pretrain dino --preset boosted --help", 0);
    assert_says("\n  --teacher-temp 0.07 ");
    assert_says("[published 0.04, main_dino.py --teacher_temp]");
}

/* The page is made of --help; nothing may get lost on the way. */
static void test_cli__manual_has_every_flag(void **state)
{
    (void)state;
    if (getenv("TSR_MAN_PAGE") == NULL) skip();
    assert_int_equal(
        shell(
            "{ for r in $(\"$t\" pretrain --help | sed -n 's/^  \\([a-z][a-z0-9_-]*\\) .*/\\1/p'); "
            "do \"$t\" pretrain $r --help; done; for c in 'plan ibot' 'data ibot' knn linear features "
            "attention inspect gradcheck import export finetune cluster recipes diff-recipe 'data pack'; do \"$t\" $c --help; done; } | "
            "sed -n 's/^  \\(--[a-z0-9-]*\\).*/\\1/p' | sort -u "
            "> $d/help; sed -n 's/^\\.B //p' \"$TSR_MAN_PAGE\" | tr -d '\\\\' | cut -d ' ' -f 1 | "
            "grep ^-- | sort -u > $d/man; diff $d/help $d/man && wc -l < $d/man"),
        0);
    assert_true(atoi(text) > 60);
}

static void test_cli__completes_commands_recipes_and_options(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"COMP_WORDS=(tessera kn) COMP_CWORD=1", "knn\n"},
        {"COMP_WORDS=(tessera pretrain ib) COMP_CWORD=2", "ibot\n"},
        {"COMP_WORDS=(tessera pretrain ibot --local-s) COMP_CWORD=3",
         "--local-size --local-scale\n"},
        {"COMP_WORDS=(tessera knn RUN --te) COMP_CWORD=3",
         "--test-data --test-images --temperature\n"},
        {"COMP_WORDS=(tessera knn RUN x) COMP_CWORD=3", "\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char command[512];
        snprintf(
            command, sizeof command,
            "bash -c 'PATH=${t%%/*}:$PATH; . \"$TSR_COMPLETION\"; %s; _tessera; echo \"${COMPREPLY[@]}\"'",
            cases[i][0]);
        assert_int_equal(shell(command), 0);
        assert_string_equal(text, cases[i][1]);
    }
}

/* ---- errors ---- */

static void test_cli__wrong_usage_exits_2(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"frobnicate", "there is no command \"frobnicate\"; tessera --help lists them\n"},
        {"pretrian ibot", "there is no command \"pretrian\"; did you mean pretrain? "},
        {"knn x --tmperature 1", "--tmperature: no such option; did you mean --temperature?\n"},
        {"pretrain ibot --momentum=1",
         "--momentum: no such option; did you mean --momentum-teacher?\n"},
        {"pretrain ibot --dry-run", "--data is needed"},
        {"pretrain nothing", "nothing"},
        {"pretrain ibot --data x", "--data and --out are needed"},
        {"pretrain ibot --preset nothing", "--preset: ibot has no preset \"nothing\"; it has: "},
        {"pretrain ibot --batch 0", "--batch: got \"0\", expected a whole number from 1 to"},
        {"plan ibot --batch many", "--batch: got \"many\""},
        {"data ibot", "--data is needed"},
        {"data ibot --data x --images 0",
         "--images: got \"0\", expected a whole number from 1 to 1000"},
        {"knn", "an argument is missing"},
        {"knn a b", "\"b\": one argument too many"},
        {"knn x", "--data is needed"},
        {"knn x --data", "--data: a value is missing"},
        {"knn x --data y --k 0", "--k: got \"0\", expected"},
        {"knn x --data y --k 10,", "--k: got \"10,\", expected"},
        {"knn x --data y --temperature 0", "--temperature: got \"0\", expected a number from"},
        {"knn x --data y --avgpool 3", "--avgpool: got \"3\", expected a whole number from 0 to 2"},
        {"linear x --data y --classifier svm",
         "--classifier: got \"svm\", expected sgd or logistic"},
        {"linear x --data y --rates 1,-1", "--rates: got \"1,-1\", expected"},
        {"linear x --data y --penalties x", "--penalties: got \"x\", expected"},
        {"linear x --data y --classifier logistic --augment", "--augment: logistic regression"},
        {"features x --data y", "--data and --out are needed"},
        {"attention x --out y", "--out and one of --image and --data are needed"},
        {"attention x --out y --image a --data b",
         "--out and one of --image and --data are needed"},
        {"inspect", "an argument is missing"},
        {"gradcheck nothing", "there is no op \"nothing\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_run(cases[i][0], 2);
        assert_int_equal(strncmp(text, "tessera: ", 9), 0);
        assert_says(cases[i][1]);
        assert_true(lines() <= 2); /* the message, and perhaps the usage */
    }
    for (int i = 0; i < COMMANDS; i++) {
        char arguments[64];
        snprintf(arguments, sizeof arguments, "%s --frobnicate", commands[i]);
        assert_run(arguments, 2);
        assert_says("--frobnicate: no such option");
    }
}

static void test_cli__failures_exit_1_with_one_line(void **state)
{
    (void)state;
    make_folder("empty");
    make_folder("flat");
    write_jpeg("flat/one.jpg", 20, 20, 10);
    write_file("not-a-checkpoint", "hello, world: this is no checkpoint", 35);
    static const char *const cases[][2] = {
        {"knn $d/nothing --data $d/data", "nothing"},
        {"knn $d/empty --data $d/data", "no checkpoint in this directory"},
        {"knn $d/not-a-checkpoint --data $d/data", "not-a-checkpoint"},
        {"knn $d/run --data $d/nothing", "nothing"},
        {"knn $d/run --data $d/flat", "'test'"},
        {"knn $d/run --data $d/data --weights both",
         "--weights: got \"both\", expected teacher or student"},
        {"linear $d/run --data $d/flat --test-data $d/data", "has no labels"},
        {"features $d/run --data $d/nothing --out $d/no/folder", "/no/folder: its folder: No such"},
        {"features $d/run --data $d/data --out $d/f --last-blocks 9",
         "--last-blocks: got 9, the network has 3"},
        {"attention $d/run --image $d/nothing.jpg --out $d/a.jpg", "nothing.jpg"},
        {"attention $d/run --data $d/data --index 48 --out $d/a.jpg", "48"},
        {"attention $d/run --data $d/data --size 3 --out $d/a.jpg",
         "--size: 3 is smaller than a patch (4)"},
        {"inspect $d/not-a-checkpoint", "not-a-checkpoint"},
        {"data ibot --data $d/empty", "empty"},
        {"plan ibot --images 10 --batch 64", "--batch: 64 is more than the images there are (10)"},
        {"pretrain ibot --dry-run --data $d/data --batch 64",
         "--batch: 64 is more than the images there are (48)"},
        {"plan ibot --images 100 --batch 10 --micro-batch 3",
         "--micro-batch: 3 does not divide --batch 10"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char command[512];
        snprintf(command, sizeof command, "\"$t\" %s 2>&1 >/dev/null", cases[i][0]);
        if (shell(command) != 1) fail_msg("%s: %s", cases[i][0], text);
        assert_int_equal(strncmp(text, "tessera: ", 9), 0);
        assert_says(cases[i][1]);
        assert_int_equal(lines(), 1);
    }
}

/* ---- evaluations ---- */

static tsr_checkpoint *open_run(void)
{
    char path[TSR_CHECKPOINT_PATH];
    tsr_checkpoint *c = tsr_checkpoint_open_run(file_path("run"), path);
    assert_ok();
    return c;
}

/* Features as the library gives them. */
static tsr_features library_features(const char *split, const tsr_extract_options *options)
{
    tsr_checkpoint *c = open_run();
    tsr_backbone *backbone = tsr_backbone_load(c, NULL);
    tsr_dataset *data = tsr_dataset_open(file_path("data"), split);
    tsr_features features = {0};
    tsr_features_extract(backbone, data, options, &features);
    assert_ok();
    tsr_dataset_close(&data);
    tsr_module_free(&backbone);
    tsr_checkpoint_close(&c);
    return features;
}

static void test_cli__knn_prints_what_the_library_finds(void **state)
{
    (void)state;
    tsr_features train = library_features("train", &(tsr_extract_options){0});
    tsr_features test = library_features("test", &(tsr_extract_options){0});
    int64_t k[] = {1, 5};
    tsr_knn_result result;
    tsr_knn_evaluate(&train, &test, &(tsr_knn_options){.k = k, .n_k = 2}, &result);
    assert_ok();
    assert_run("knn $d/run --data $d/data --k 1,5 --threads 1", 0);
    assert_says("48 training and 16 test images, 4 classes (IDX)");
    assert_says("k=1 ");
    double got[2], untrained[2], raw[2];
    assert_int_equal(row_numbers("this checkpoint", got, 2), 2);
    assert_int_equal(row_numbers("untrained network", untrained, 2), 2);
    assert_int_equal(row_numbers("raw pixels", raw, 2), 2);
    for (int i = 0; i < 2; i++) assert_true(fabs(got[i] - 100.0 * result.scores[i].top1) < 0.005);
    /* The same at another number of threads; the students' weights are others. */
    assert_run(
        "knn $d/run/checkpoint-00000006.tsr --data $d/data --k 1,5 --threads 2 --no-baselines", 0);
    double again[2];
    assert_int_equal(row_numbers("this checkpoint", again, 2), 2);
    assert_true(again[0] == got[0] && again[1] == got[1]);
    assert_null(strstr(text, "raw pixels"));
    assert_run(
        "knn $d/run --data $d/data --weights student --train-images 8 --test-images 4 --no-baselines",
        0);
    assert_says("backbone of the student");
    assert_says("8 training and 4 test images");
}

static void test_cli__linear_prints_the_best_rate(void **state)
{
    (void)state;
    assert_run("linear $d/run --data $d/data --rates 0.5,0.25 --epochs 3 --sgd-batch 16", 0);
    double row[3];
    assert_int_equal(row_numbers("this checkpoint", row, 3), 3);
    assert_true(row[0] >= 0.0 && row[0] <= row[1] && row[1] <= 100.0);
    assert_true(row[2] == 0.5 || row[2] == 0.25);
    assert_int_equal(row_numbers("raw pixels", row, 3), 3);
    assert_run("linear $d/run --data $d/data --rates 0.5 --epochs 2 --augment --no-baselines", 0);
    assert_int_equal(row_numbers("this checkpoint", row, 3), 3);
}

static void test_cli__logistic_prints_the_best_penalty(void **state)
{
    (void)state;
    assert_run(
        "linear $d/run --data $d/data --classifier logistic --penalties 0.125 --no-baselines", 0);
    double row[3];
    assert_int_equal(row_numbers("this checkpoint", row, 3), 3);
    assert_true(row[2] == 0.125);
    assert_says("penalty");
}

/* ---- files ---- */

static void test_cli__features_are_the_librarys(void **state)
{
    (void)state;
    assert_run(
        "features $d/run --data $d/data --split test --out $d/f.safetensors --last-blocks 2 --avgpool 2",
        0);
    assert_says("features [16, 48]");
    tsr_safetensors *file = tsr_safetensors_open(file_path("f.safetensors"));
    tsr_features want = library_features(
        "test", &(tsr_extract_options){.last_blocks = 2, .pooling = TSR_POOLING_BOTH});
    assert_same(tsr_safetensors_tensor(file, "features"), want.x);
    assert_same(tsr_safetensors_tensor(file, "labels"), want.labels);
    const char *names = tsr_safetensors_metadata(file, "names");
    assert_non_null(names);
    int n = 1;
    for (const char *p = names; *p != '\0'; p++) n += *p == '\n';
    assert_int_equal(n, 16);
    tsr_safetensors_close(&file);
}

static void test_cli__cluster_prints_what_the_library_finds(void **state)
{
    (void)state;
    tsr_features test = library_features("test", &(tsr_extract_options){0});
    tsr_checkpoint *c = open_run();
    tsr_head *head = tsr_head_load(c, NULL);
    tsr_cluster_result want;
    tsr_cluster_evaluate(tsr_head_assign(head, test.x), test.labels, &want);
    assert_ok();
    assert_run("cluster $d/run --data $d/data --threads 1", 0);
    assert_says("16 images (IDX); ");
    assert_says("of 4 classes");
    const char *const rows[] = {"accuracy (Hungarian), %", "adjusted Rand index, %",
                                "normalized mutual information, %", "Fowlkes-Mallows index, %"};
    const double wanted[] = {want.accuracy, want.ari, want.nmi, want.fmi};
    for (int i = 0; i < 4; i++) {
        double got = NAN;
        assert_int_equal(row_numbers(rows[i], &got, 1), 1);
        assert_true(fabs(got - 100.0 * wanted[i]) <= 0.0051);
    }
    tsr_module_free(&head);
    tsr_checkpoint_close(&c);
    assert_run("cluster $d/run --data $d/data --split train --images 9 --weights student", 0);
    assert_says("9 images (IDX); ");
    assert_says("backbone of the student");
    make_folder("unlabelled");
    write_jpeg("unlabelled/a.jpg", 20, 20, 100);
    assert_run("cluster $d/run --data $d/unlabelled --split train", 1);
    assert_says("has no labels");
}

/* Its pixels, size and mean brightness. */
static double brightness(const char *name, int height, int width)
{
    tsr_image image = {0};
    tsr_jpeg_read(file_path(name), NULL, &image, NULL);
    assert_ok();
    assert_int_equal(image.height, height);
    assert_int_equal(image.width, width);
    double sum = 0.0;
    for (int i = 0; i < 3 * height * width; i++) sum += image.pixels[i];
    tsr_image_free(&image);
    return sum / (3.0 * height * width);
}

static void test_cli__attention_draws_each_head(void **state)
{
    (void)state;
    /* The image, the mean and two heads: four tiles of 8 pixels, zoomed by 14. */
    assert_run("attention $d/run --data $d/data --index 5 --out $d/a.jpg", 0);
    brightness("a.jpg", 112 + 8, 4 * 116 + 4);
    write_jpeg("photo.jpg", 100, 120, 200);
    assert_run("attention $d/run --image $d/photo.jpg --size 112 --out $d/b.jpg", 0);
    assert_says("over 28 x 28 patches");
    brightness("b.jpg", 112 + 8, 4 * 116 + 4);
}

static void test_cli__data_draws_views_and_masks(void **state)
{
    (void)state;
    /* Per row: the image, two global crops, two local ones; all zoomed by 14. */
    const char *all = "data ibot --data $d/data --images 3 --jitter 0 --blur 0" SMALL;
    char arguments[1024];
    snprintf(arguments, sizeof arguments,
             "%s --out $d/masked.jpg --pred-ratio 0.75 --pred-ratio-var 0 "
             "--pred-shape rand",
             all);
    assert_run(arguments, 0);
    assert_says("IDX, 48 images, 4 classes: 0, 1, 2, 3\n");
    double masked = brightness("masked.jpg", 3 * 116 + 4, 3 * 116 + 2 * 60 + 4);
    snprintf(arguments, sizeof arguments, "%s --out $d/open.jpg --pred-ratio 0 --pred-ratio-var 0",
             all);
    assert_run(arguments, 0);
    assert_true(brightness("open.jpg", 3 * 116 + 4, 3 * 116 + 2 * 60 + 4) > masked + 5.0);
}

static void test_cli__data_lists_damaged_images(void **state)
{
    (void)state;
    make_folder("photos");
    write_jpeg("photos/good.jpg", 20, 20, 10);
    write_file("photos/bad.jpg", "no image", 8);
    assert_run("data ibot --data $d/photos --check", 0);
    assert_says("flat folder, 2 images, no labels");
    assert_says("unreadable: ");
    assert_says("photos/bad.jpg: not a JPEG\n");
    assert_says("all images were read: 1 unreadable, 0 damaged");
}

static void test_cli__data_pack_writes_the_same_shards_each_time(void **state)
{
    (void)state;
    make_folder("pack");
    make_folder("pack/a");
    make_folder("pack/b");
    write_jpeg("pack/a/1.jpg", 8, 8, 20);
    write_jpeg("pack/b/2.jpg", 700, 900, 40);
    write_jpeg("pack/b/3.jpg", 8, 8, 60);
    assert_run("data pack --data $d/pack --out $d/x", 0);
    assert_says("3 images, their classes by number");
    assert_run("data pack --data $d/pack --out $d/y", 0);
    assert_int_equal(shell("cmp $d/x-000000.tar $d/y-000000.tar && tar tf $d/x-000000.tar"), 0);
    assert_string_equal(text, "000000000.jpg\n000000000.cls\n000000001.jpg\n000000001.cls\n"
                              "000000002.jpg\n000000002.cls\n");
    assert_int_equal(shell("tar xOf $d/x-000000.tar 000000002.jpg | cmp - $d/pack/b/3.jpg"), 0);
    assert_run("data ibot --data \"$d/x-{000000..000000}.tar\" --check", 0);
    assert_says("shards, 3 images, 2 classes: 0, 1");
    assert_run("data pack --data $d/data --out $d/z", 1);
    assert_says("IDX holds no JPEG files");
    assert_run("data pack --data $d/pack", 2);
}

static void test_cli__inspect_lists_and_verifies(void **state)
{
    (void)state;
    assert_run("inspect $d/run", 0);
    assert_says("\n  option.dim                           16\n");
    assert_says("\n  recipe                               ibot\n");
    tsr_checkpoint *c = open_run();
    for (int64_t i = 0; i < tsr_checkpoint_count(c); i++)
        assert_says(tsr_checkpoint_at(c, i)->name);
    char line[64];
    snprintf(line, sizeof line, "verified: %d tensors", (int)tsr_checkpoint_count(c));
    assert_says(line);
    tsr_checkpoint_close(&c);
    assert_int_equal(
        shell(
            "cp $d/run/checkpoint-00000006.tsr $d/torn.tsr; printf X | dd of=$d/torn.tsr bs=1 seek=9000 "
            "conv=notrunc status=none"),
        0);
    assert_run("inspect $d/torn.tsr", 1);
    assert_says("tessera: ");
    assert_says("checksum");
}

static void test_cli__inspect_finds_nan(void **state)
{
    (void)state;
    tsr_checkpoint_writer *w = tsr_checkpoint_create(file_path("nan.tsr"));
    const float values[] = {1.0f, NAN, 3.0f};
    tsr_checkpoint_put_tensor(w, "x", tsr_from(TSR_DTYPE_F32, TSR_SHAPE(3), values));
    tsr_checkpoint_put_bool(w, "switch", true);
    tsr_checkpoint_commit(&w);
    assert_ok();
    assert_run("inspect $d/nan.tsr", 1);
    assert_says(" 2          1          1          3  1 NOT FINITE");
    assert_says("tessera: 1 tensors have NaN or infinity in them");
    /* and what is no training run cannot be evaluated */
    assert_run("knn $d/nan.tsr --data $d/data", 1);
    assert_says("option.model is missing");
}

/* ---- weights from elsewhere ---- */

/* The name of a file that PyTorch wrote. */
static const char *torch_file(void)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/torch_vit.pth", getenv("TSR_GOLDEN"));
    setenv("v", path, 1);
    return path;
}

static void test_cli__import_makes_a_checkpoint_that_commands_open(void **state)
{
    (void)state;
    tsr_weights *w = tsr_weights_open(torch_file());
    assert_non_null(w);
    assert_run("import $v --out $d/vit.tsr --heads 2", 0);
    assert_says("PyTorch, 37 tensors, names of the authors' iBOT and DINO");
    assert_says("of them under \"teacher.backbone.\"; left out: 19 others\n");
    assert_says("\nvit: dim 8, depth 1, heads 2, patches of 4 in 8 pixels, 0.0 M parameters\n");
    assert_says(
        "\nMLP ratio: 2, registers: 0, qkv bias: yes, LayerScale: no, pooling: class token, "
        "mask token: no, eps 1e-06\n"
        "positions: by scale with an offset, relative positions: none\n");
    assert_says("\npictures: normalized by ImageNet's mean and deviation (--mean, --std)\n");
    assert_says("\n  loaded   teacher.backbone.blocks.0.mlp.fc2.weight [8, 16]\n");
    assert_says("\nloaded 18, resized 0, unused 0, missing 0\n");

    /* Which says what its tensors do not. */
    assert_run("import $d/vit.tsr --out $d/again.tsr", 0);
    assert_says("\nvit: dim 8, depth 1, heads 2, ");

    assert_run("inspect $d/vit.tsr", 0);
    assert_says("\n  recipe                               import\n");
    assert_says("\n  option.heads                         2\n");
    assert_says("verified: 18 tensors, 1056 elements");
    assert_run("knn $d/vit.tsr --data $d/data --k 1,5 --no-baselines", 0);
    assert_says("dim 8, depth 1, heads 2, patches of 4 in 8 pixels");
    double row[2];
    assert_int_equal(row_numbers("this checkpoint", row, 2), 2);
    assert_run("linear $d/vit.tsr --data $d/data --rates 0.5 --epochs 2 --no-baselines", 0);
    assert_run("attention $d/vit.tsr --data $d/data --index 5 --out $d/v.jpg", 0);
    brightness("v.jpg", 112 + 8, 4 * 116 + 4);

    /* Features are those of the file's own weights. */
    assert_run("features $d/vit.tsr --data $d/data --split test --out $d/v.safetensors", 0);
    tsr_import *m = tsr_import_open(w, &(tsr_import_options){.heads = 2});
    assert_non_null(m);
    assert_int_equal(tsr_import_load(m), TSR_STATUS_OK);
    tsr_module_train(&m->backbone->module, false);
    tsr_dataset *data = tsr_dataset_open(file_path("data"), "test");
    tsr_features want = {0};
    tsr_features_extract(m->backbone, data, &(tsr_extract_options){0}, &want);
    assert_ok();
    tsr_safetensors *got = tsr_safetensors_open(file_path("v.safetensors"));
    assert_same(tsr_safetensors_tensor(got, "features"), want.x);
    tsr_safetensors_close(&got);
    tsr_dataset_close(&data);
    tsr_import_free(&m);
    tsr_weights_close(&w);
}

/* The last of its tensors is damaged: those before it were copied already, and nothing of them stays. */
static void test_cli__import_of_a_damaged_file_leaves_nothing(void **state)
{
    (void)state;
    torch_file();
    assert_int_equal(shell("cp $v $d/torn.pth; printf X | dd of=$d/torn.pth bs=1 seek=6700 "
                           "conv=notrunc status=none"),
                     0);
    assert_run("import $d/torn.pth --out $d/broken.tsr --heads 2", 1);
    assert_says("tessera: pth: '");
    assert_says("torn.pth' is a broken zip archive: CRC error\n");
    assert_int_equal(shell("ls $d | grep -q broken"), 1);
}

/* A small network under another program's names: NAME.safetensors. */
static void write_foreign(const char *map, tsr_backbone *m, const char *name)
{
    tsr_module_list *all = tsr_module_state(&m->module);
    for (int64_t i = 0; i < all->n; i++) {
        if (all->at[i].init.kind == TSR_INIT_NOT) continue;
        tsr_fill_normal(tsr_detach(all->at[i].tensor), tsr_rng_make(3, (uint32_t)i, 0, 1), 0, 0.2);
    }
    for (int64_t i = 0; i < all->n; i++) { /* as BEiT's */
        int64_t third = tsr_tensor_size(all->at[i].tensor, 0) / 3;
        if (strstr(all->at[i].name, "qkv.bias") == NULL) continue;
        tsr_tensor_fill(tsr_slice(tsr_detach(all->at[i].tensor), 0, third, 2 * third, 1), 0.0);
    }
    tsr_module_list_free(&all);
    tsr_named_list *list = tsr_name_map_export(tsr_name_map_find(map), &m->module);
    assert_non_null(list);
    tsr_safetensors_write(file_path(name), list->at, list->n,
                          &(tsr_safetensors_pair){"format", "pt"}, 1);
    assert_ok();
    tsr_named_list_free(&list);
    tsr_module_free(&m);
}

/* BEiT and Swin, imported, do all that a checkpoint of ours does: features are those of the network itself. */
static void test_cli__imported_beit_and_swin_are_used_as_a_run(void **state)
{
    (void)state;
    tsr_vit *beit = tsr_vit_new(&(tsr_vit_config){.image_size = 8,
                                                  .patch_size = 4,
                                                  .dim = 8,
                                                  .depth = 2,
                                                  .heads = 2,
                                                  .mlp_ratio = 2,
                                                  .qkv_bias = true,
                                                  .layer_scale = 0.1,
                                                  .relative = TSR_VIT_RELATIVE_BLOCKS,
                                                  .no_position = true,
                                                  .mean_pooling = true});
    tsr_swin *swin = tsr_swin_new(&(tsr_swin_config){.image_size = 32,
                                                     .patch_size = 2,
                                                     .dim = 8,
                                                     .stages = 4,
                                                     .depths = {2, 2, 1, 2},
                                                     .heads = {1, 2, 4, 8},
                                                     .window = 2,
                                                     .mlp_ratio = 2,
                                                     .qkv_bias = true});
    assert_ok();
    write_foreign("beit", &beit->backbone, "beit.safetensors");
    write_foreign("torchvision-swin", &swin->backbone, "swin.safetensors");
    assert_run("import $d/beit.safetensors --out $d/beit.tsr", 0);
    assert_says("names of the authors' BEiT, timm's BEiT\n");
    assert_says("pooling: mean, ");
    assert_says("\npositions: none, relative positions: of each block\n");
    assert_run("import $d/swin.safetensors --out $d/swin.tsr", 0);
    assert_says("names of torchvision's swin_t and its like\n");
    assert_says("\nswin: dim 8, depths 2,2,1,2, heads 1,2,4,8, windows of 2, patches of 2 in 32 "
                "pixels, ");
    /* Their checkpoints under our names, which are those of networks with another epsilon. */
    assert_run("import $d/swin.tsr --out $d/again.tsr", 0);
    assert_says("mask token: no, eps 1e-05\n");
    static const char *const names[] = {"beit", "swin"};
    for (int i = 0; i < 2; i++) {
        setenv("n", names[i], 1);
        assert_run("knn $d/$n.tsr --data $d/data --k 1,5 --no-baselines", 0);
        assert_run("linear $d/$n.tsr --data $d/data --rates 0.5 --epochs 1 --no-baselines "
                   "--last-blocks 1",
                   0);
        assert_run("features $d/$n.tsr --data $d/data --split test --out $d/f.safetensors", 0);

        tsr_weights *w =
            tsr_weights_open(file_path(i == 0 ? "beit.safetensors" : "swin.safetensors"));
        tsr_import *m = tsr_import_open(w, &(tsr_import_options){0});
        if (m != NULL) tsr_import_load(m);
        assert_ok();
        tsr_module_train(&m->backbone->module, false);
        tsr_dataset *data = tsr_dataset_open(file_path("data"), "test");
        tsr_features want = {0};
        tsr_features_extract(m->backbone, data, &(tsr_extract_options){0}, &want);
        tsr_safetensors *got = tsr_safetensors_open(file_path("f.safetensors"));
        assert_same(tsr_safetensors_tensor(got, "features"), want.x);
        tsr_safetensors_close(&got);
        tsr_dataset_close(&data);
        tsr_import_free(&m);
        tsr_weights_close(&w);
    }
    assert_run("attention $d/beit.tsr --data $d/data --index 5 --out $d/v.jpg", 0);
    assert_run("attention $d/swin.tsr --data $d/data --index 5 --out $d/v.jpg", 1);
    assert_says("last_attention: a swin has no attention of a class token");
    assert_run(
        "pretrain ibot --data $d/data --init $d/swin.tsr --out $d/run-swin --model swin_tiny "
        "--image-size 32 --patch-size 2 --window 2 --dim 8 --depth 7 --heads 1 "
        "--mlp-ratio 2 --batch 8 --epochs 1 --out-dim 16 --local-crops 0 --stop-after 1",
        0);
    assert_run("knn $d/run-swin --data $d/data --k 1 --no-baselines", 0);
    assert_run("finetune $d/swin.tsr --data $d/data --batch 8 --epochs 1 --warmup-epochs 0 "
               "--out $d/tuned-swin --stop-after 1",
               0);

    /* Graphs of both, for one size. */
    for (int i = 0; i < 2; i++) {
        setenv("n", names[i], 1);
        assert_run("export $d/$n.tsr --format onnx --out $d/x.onnx", 0);
        assert_says("\nverified: run on 2 batches of noise, largest difference ");
        assert_run("export $d/$n.tsr --format onnx --output tokens --size 64 --out $d/x.onnx", 0);
        assert_run("export $d/$n.tsr --format onnx --dynamic-size --out $d/y.onnx", 1);
        assert_says("--dynamic-size: this network has relative positions, which a graph holds");
    }
    tsr_vit *registers = tsr_vit_new(&(tsr_vit_config){.image_size = 8,
                                                       .patch_size = 4,
                                                       .dim = 8,
                                                       .depth = 1,
                                                       .heads = 2,
                                                       .mlp_ratio = 2,
                                                       .qkv_bias = true,
                                                       .layer_scale = 0.1,
                                                       .registers = 2});
    write_foreign("timm", &registers->backbone, "registers.safetensors");
    assert_run("import $d/registers.safetensors --heads 2 --out $d/registers.tsr", 0);
    assert_run("export $d/registers.tsr --format onnx --size 12 --out $d/x.onnx", 0);
    assert_run("export $d/registers.tsr --format onnx --dynamic-size --out $d/x.onnx", 0);
    assert_says("\nverified: run on 3 batches of noise, largest difference ");
    assert_run("export $d/swin.tsr --format onnx --output attention --out $d/y.onnx", 1);
    assert_says("last_attention: a swin has no attention of a class token");

    /* And out again, the same bytes. */
    assert_run("export $d/swin.tsr --format safetensors --names torchvision-swin --out $d/s.out",
               0);
    assert_int_equal(shell("cmp $d/s.out $d/swin.safetensors"), 0);
}

static void test_cli__import_resizes_and_allows(void **state)
{
    (void)state;
    torch_file();
    assert_run("import $v --out $d/big.tsr --heads 2 --image-size 16", 0);
    assert_says(
        "  resized  teacher.backbone.pos_embed [1, 5, 8] -> [1, 17, 8] (2x2 patches to 4x4)\n");
    assert_says("\nloaded 17, resized 1, unused 0, missing 0\n");
    assert_run("knn $d/big.tsr --data $d/data --no-baselines", 0);
    assert_says("patches of 4 in 16 pixels");
    /* A file of its own, with a classifier. */
    tsr_weights *w = tsr_weights_open(getenv("v"));
    tsr_named_tensor list[64];
    int n = 0;
    static const char teacher[] = "teacher.backbone.";
    for (int64_t i = 0; i < tsr_weights_count(w); i++) {
        const char *name = tsr_weights_name(w, i);
        if (strncmp(name, teacher, sizeof teacher - 1) != 0) continue;
        if (strcmp(name, "teacher.backbone.norm.bias") == 0) continue;
        list[n++] = (tsr_named_tensor){name + sizeof teacher - 1, tsr_weights_tensor(w, i)};
    }
    list[n++] = (tsr_named_tensor){"head.weight", tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3, 8))};
    tsr_safetensors_write(file_path("c.safetensors"), list, n, NULL, 0);
    assert_ok();
    tsr_weights_close(&w);
    assert_run("import $d/c.safetensors --out $d/c.tsr --heads 2", 1);
    assert_says("\n  unused   head.weight [3, 8]\n");
    assert_says("\n  missing  norm.bias [8]\n");
    assert_says("\nloaded 17, resized 0, unused 1, missing 1\n");
    assert_says("tessera: import: 1 tensors are unused, and nothing was written; if that is as it "
                "should be, say --allow unused,missing\n");
    assert_int_equal(shell("test -e $d/c.tsr"), 1);
    assert_run("import $d/c.safetensors --out $d/c.tsr --heads 2 --allow unused", 1);
    assert_says("1 tensors are missing, and nothing was written");
    assert_run("import $d/c.safetensors --out $d/c.tsr --heads 2 --allow missing,unused", 0);
    assert_run("inspect $d/c.tsr", 0);
}

static void test_cli__import_refuses_in_one_line(void **state)
{
    (void)state;
    torch_file();
    write_file("not-weights", "hello, world: these are no weights", 34);
    write_file("evil.pth", "\x80\x02\x63posix\nsystem\n.", 17);
    static const char *const cases[][2] = {
        {"$v", "how many heads a width of 8 has is not known: give --heads"},
        {"$v --heads 3", "how many heads a width of 8 has is not known: give --heads"},
        {"$v --heads 2 --prefix x.",
         "no network has this prefix; there are: 'student.module.backbone.'"},
        {"$v --heads 2 --names resnet", "there are no names called \"resnet\""},
        {"$v --heads 2 --names torchvision",
         "no network that is known in the file: of its 37 tensors"},
        {"$d/nothing.pth", "cannot open '"},
        {"$d/not-weights",
         "is neither a PyTorch file nor safetensors nor a Tessera checkpoint nor ONNX"},
        {"$d/evil.pth", "evil.pth"},
        {"$d", "is a directory, wanted a file"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char command[512];
        snprintf(command, sizeof command, "\"$t\" import %s --out $d/no.tsr 2>&1 >/dev/null",
                 cases[i][0]);
        if (shell(command) != 1) fail_msg("%s: %s", cases[i][0], text);
        assert_int_equal(strncmp(text, "tessera: ", 9), 0);
        assert_says(cases[i][1]);
        assert_int_equal(lines(), 1);
        assert_int_equal(shell("test -e $d/no.tsr"), 1);
    }
    assert_run("import $v", 2);
    assert_says("--out is needed");
    assert_run("import $v --out $d/no.tsr --heads 2 --allow loaded", 2);
    assert_says("--allow: got \"loaded\", expected unused, missing or");
    static const char *const colours[] = {"--mean 0.5",
                                          "--std 0.5",
                                          "--mean 0.5 --std 0",
                                          "--mean 2 --std 1",
                                          "--mean 0.5,0.5 --std 0.5",
                                          "--mean 0.5, --std 0.5",
                                          "--mean x --std 0.5"};
    for (size_t i = 0; i < sizeof colours / sizeof colours[0]; i++) {
        char command[128];
        snprintf(command, sizeof command, "import $v --out $d/no.tsr --heads 2 %s", colours[i]);
        assert_run(command, 2);
        assert_says("expected both, of values from 0 to 1: one number, or three with commas");
    }
    assert_int_equal(shell("test -e $d/no.tsr"), 1);
    assert_run("import $v --out $d/half.tsr --heads 2 --mean 0.5 --std 0.5,0.5,0.5", 0);
    assert_says("by mean 0.5 and deviation 0.5,0.5,0.5: into the patch embedding\n");
}

static void test_cli__pretrain_starts_from_imported_weights(void **state)
{
    (void)state;
    torch_file();
#define IMPORTED " --dim 8 --depth 1 --heads 2 --mlp-ratio 2 --stop-after 1"
    assert_run("import $v --out $d/start.tsr --heads 2", 0);
    assert_run("pretrain ibot --data $d/data --init $d/start.tsr --out $d/run2" SMALL IMPORTED, 0);
    /* A longer side: the position embedding is resized. Recipes without a teacher do it too. */
    assert_run("pretrain simsiam --data $d/data --init $d/start.tsr --out $d/run3 --image-size 16"
               " --patch-size 4 --batch 8 --epochs 1" IMPORTED,
               0);
    static const char *const cases[][2] = {
        {"--dim 16 --depth 1 --heads 2 --mlp-ratio 2",
         "cls_token [1, 1, 8], this run's [1, 1, 16]"},
        {"--dim 8 --depth 2 --heads 2 --mlp-ratio 2",
         "lacks blocks.1.norm1.weight, this run's has"},
        {"--dim 8 --depth 1 --heads 1 --mlp-ratio 2", "has 2 heads, this run's 1: give --heads 2"},
        {"--dim 8 --depth 1 --heads 2 --mlp-ratio 4", "mlp.fc1.weight [16, 8], this run's [32, 8]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char arguments[1024];
        snprintf(arguments, sizeof arguments,
                 "pretrain ibot --data $d/data --init $d/start.tsr --out $d/refused" SMALL " %s",
                 cases[i][0]);
        assert_run(arguments, 1);
        assert_says(cases[i][1]);
        assert_int_equal(shell("ls $d/refused | grep -c checkpoint"), 1);
    }
    assert_run("pretrain ibot --resume --init $d/start.tsr --out $d/run2", 2);
    assert_says("--init: a run that is resumed goes on with its own weights");
#undef IMPORTED
}

/* The shape is the checkpoint's; a run goes on with its own weights; accuracy is said. */
static void test_cli__finetune_starts_from_a_run(void **state)
{
    (void)state;
#define TUNED "finetune $d/run --data $d/data --batch 8 --epochs 2 --warmup-epochs 0"
    assert_run("finetune --help", 0);
    assert_says("Usage: tessera finetune CHECKPOINT --data DIR --out DIR [options]\n");
    assert_run(TUNED " --out $d/tuned --from-projection --stop-after 7", 0);
    assert_says(" dim 16 ");
    assert_says(" projection 16 ");
    assert_says("\nvalidation: loss ");
    assert_says(" accuracy ");
    assert_run("finetune --resume --out $d/tuned", 0);
    assert_says("resumed at step 7\n");
    assert_run("knn $d/tuned --data $d/data --k 4 --no-baselines", 0);
    assert_run("finetune $d/tuned --resume --out $d/tuned", 2);
    assert_says("a run that is resumed goes on with its own weights");
    assert_run("finetune --data $d/data --out $d/tuned2", 2);
    assert_says("a checkpoint to start from is missing");
    assert_run(TUNED " --out $d/tuned2 --weights both", 2);
    assert_says("expected teacher or student");
    assert_run("finetune $d/tuned --data $d/data --out $d/tuned2 --from-projection", 1);
    assert_says("no projection head (student/head.mlp.0.weight)");
    /* 6 of each of the 4 classes; a resumed run has them again. */
    assert_run(TUNED " --out $d/few --label-fraction 0.5 --stop-after 2", 0);
    assert_says("images: 24 ");
    assert_run("finetune --resume --out $d/few", 0);
    assert_says("images: 24 ");
    assert_int_equal(shell("for i in 0 1 2 3 4 5 6 7; do echo \"train-images-idx3-ubyte[$i]\"; "
                           "done > $d/list"),
                     0);
    assert_run(TUNED " --out $d/listed --label-list $d/list --stop-after 1", 0);
    assert_says("images: 8 ");
    assert_run(TUNED " --out $d/none --label-fraction 2", 2);
#undef TUNED
}

/* ---- checks and estimates ---- */

static void test_cli__gradcheck_checks_what_is_asked(void **state)
{
    (void)state;
    assert_run("gradcheck gelu argmax", 0);
    assert_says("\ngelu ");
    assert_says(" ok\n");
    assert_says("no gradient\n");
    assert_says("2 ops, 0 failed\n");
}

static void test_cli__plan_measures_a_step(void **state)
{
    (void)state;
    assert_run("plan ibot --data $d/data" SMALL " --epochs 7", 0);
    assert_says("an epoch of 6 steps");
    assert_says("the run of 7 epochs");
    assert_says("measured, with these options");
    double gflop = 0.0;
    assert_int_equal(sscanf(strstr(text, "arithmetic"), "arithmetic %lf GFLOP", &gflop), 1);
    /* 2 global crops of 5 tokens and 2 local ones of 2: through the student thrice, the global ones through the teacher,
     * 12 D^2 multiply-adds a token and block beside attention; then the heads. */
    double least = 2e-9 * (3 * 14 + 10) * 3 * 12 * 16 * 16;
    assert_true(gflop > least && gflop < 3 * least);
    assert_run("plan ibot --images 1000" SMALL " --epochs 7", 0);
    assert_says("an epoch of 125 steps");
    /* The same of a run that is about to start, or to go on. */
    assert_run("pretrain ibot --data $d/data --out $d/dry --dry-run" SMALL " --epochs 7", 0);
    assert_says("an epoch of 6 steps");
    assert_says("the run of 7 epochs");
    assert_says("measured, with these options");
    assert_int_equal(shell("test -e $d/dry"), 1);
    assert_run("pretrain ibot --out $d/run --resume --dry-run", 0);
    assert_says("the run of 1 epochs");
}

/* ---- checkpoints of another version ---- */

static bool is_in(const char *const *names, const char *name)
{
    while (*names != NULL && strcmp(*names, name) != 0) names++;
    return *names != NULL;
}

static void put_value(tsr_checkpoint_writer *w, const tsr_checkpoint_value *v)
{
    switch (v->kind) {
    case TSR_VALUE_KIND_INT:
        tsr_checkpoint_put_int(w, v->key, v->u.as_int);
        break;
    case TSR_VALUE_KIND_UINT:
        tsr_checkpoint_put_uint(w, v->key, v->u.as_uint);
        break;
    case TSR_VALUE_KIND_DOUBLE:
        tsr_checkpoint_put_double(w, v->key, v->u.as_double);
        break;
    case TSR_VALUE_KIND_BOOL:
        tsr_checkpoint_put_bool(w, v->key, v->u.as_bool);
        break;
    case TSR_VALUE_KIND_STRING:
        tsr_checkpoint_put_string(w, v->key, v->u.as_string);
        break;
    case TSR_VALUE_KIND_BYTES:
        tsr_checkpoint_put_bytes(w, v->key, v->u.as_bytes, v->bytes);
        break;
    }
}

/* The checkpoint as a version of the program wrote it that did not have these values. */
static void copy_without(const char *from, const char *to, const char *const *left_out)
{
    tsr_checkpoint *c = tsr_checkpoint_open(file_path(from));
    tsr_checkpoint_writer *w = tsr_checkpoint_create(file_path(to));
    for (int64_t i = 0; i < tsr_checkpoint_value_count(c); i++) {
        const tsr_checkpoint_value *v = tsr_checkpoint_value_at(c, i);
        if (!is_in(left_out, v->key)) put_value(w, v);
    }
    for (int64_t i = 0; i < tsr_checkpoint_history_count(c); i++)
        tsr_checkpoint_put_history(w, tsr_checkpoint_history_at(c, i));
    for (int64_t i = 0; i < tsr_checkpoint_count(c); i++) {
        const char *name = tsr_checkpoint_at(c, i)->name;
        tsr_checkpoint_put_tensor(w, name, tsr_checkpoint_tensor(c, name));
    }
    tsr_checkpoint_commit(&w);
    tsr_checkpoint_close(&c);
    assert_ok();
}

/* Its run goes on with the defaults of what it does not know, to the same bytes; it is evaluated like any other. */
static void test_cli__checkpoints_of_older_versions_lack_options(void **state)
{
    (void)state;
    static const char *const newer[] = {"option.precision", "option.centering", "option.window",
                                        NULL};
    make_folder("old");
    make_folder("half");
    assert_run("pretrain ibot --data $d/data --out $d/half --stop-after 3" SMALL, 0);
    copy_without("half/checkpoint-00000003.tsr", "old/checkpoint-00000003.tsr", newer);
    assert_run("knn $d/old --data $d/data --k 4 --no-baselines", 0);
    assert_run("pretrain ibot --resume --out $d/old --precision bf16", 1);
    assert_says("--precision bf16: the run in ");
    assert_run("pretrain ibot --resume --out $d/old", 0);
    assert_says("the run is older than these options: --window 7 --precision f32 --centering "
                "center\n");
    assert_says("resumed at step 3\n");
    assert_int_equal(shell("cmp $d/old/checkpoint-00000006.tsr $d/run/checkpoint-00000006.tsr"), 0);
    assert_run("pretrain dino --resume --out $d/old", 1);
    assert_says("is of recipe ibot, not dino");
}

/* ---- weights for elsewhere ---- */

static void test_cli__export_writes_graphs_and_weights(void **state)
{
    (void)state;
    assert_run("export $d/run --format onnx --out $d/class.onnx", 0);
    assert_says("\nverified: run on 2 batches of noise, largest difference ");
    assert_run("export $d/run --format onnx --output tokens --external-data --out $d/t.onnx", 0);
    assert_says(" MB beside it (.data)\n");
    assert_run("export $d/run --format onnx --output attention --out $d/a.onnx", 0);
    static const char *const outputs[] = {"class", "tokens", "attention"};
    static const char *const files[] = {"class.onnx", "t.onnx", "a.onnx"};
    for (int i = 0; i < 3; i++) {
        tsr_onnx *m = tsr_onnx_open(file_path(files[i]));
        assert_non_null(m);
        assert_string_equal(tsr_onnx_input_name(m, 0), "images");
        assert_string_equal(tsr_onnx_output_name(m, 0), outputs[i]);
        assert_string_equal(tsr_onnx_metadata(m, "preprocessing.mean"), "0.485 0.456 0.406");
        assert_string_equal(tsr_onnx_metadata(m, "preprocessing.interpolation"), "bicubic");
        tsr_onnx_close(&m);
    }
    assert_run("export $d/run --format safetensors --names huggingface-vit --out $d/m.safetensors",
               0);
    assert_says("config.json: for transformers' from_pretrained()\n");
    assert_run("import $d/m.safetensors --names huggingface-vit --heads 2 --out $d/back.tsr", 0);
    assert_run("export $d/run --format pth --out $d/m.pth", 0);
    assert_run("import $d/m.pth --heads 2 --out $d/back.tsr", 0);
}

/* Initializers and checkpoints are weights too: through them comes what went in, the same bytes. */
static void test_cli__round_trips_give_the_same_bytes(void **state)
{
    (void)state;
    assert_run("export $d/run --format safetensors --out $d/first.safetensors", 0);
    assert_run("export $d/run --format onnx --out $d/o.onnx", 0);
    assert_run("export $d/run --format onnx --external-data --out $d/e.onnx", 0);
    assert_run("import $d/o.onnx --heads 2 --out $d/back.tsr", 1);
    assert_says(": ONNX, ");
    assert_says("  unused   constant_");
    static const char *const ways[] = {
        "import $d/o.onnx --heads 2 --allow unused --out $d/back.tsr",
        "import $d/e.onnx --heads 2 --allow unused --out $d/back.tsr",
        "import $d/first.safetensors --heads 2 --out $d/back.tsr",
        "import $d/back.tsr --heads 2 --out $d/again.tsr && cp $d/again.tsr $d/back.tsr",
        "import $d/run/checkpoint-*.tsr --heads 2 --out $d/back.tsr",
        ("export $d/run --format pth --names huggingface-vit --out $d/hf.pth && \"$t\" import "
         "$d/hf.pth --heads 2 --out $d/back.tsr"),
    };
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        assert_run(ways[i], 0);
        assert_run("export $d/back.tsr --format safetensors --out $d/second.safetensors", 0);
        if (shell("cmp $d/first.safetensors $d/second.safetensors") != 0) fail_msg("%s", ways[i]);
    }
}

static void test_cli__export_refuses_in_one_line(void **state)
{
    (void)state;
    assert_run("export $d/run --format onnx", 2);
    assert_run("export $d/run --format onnx --out $d/unwritten --names timm", 2);
    assert_run("export $d/run --format tf --out $d/unwritten 2>&1", 2);
    assert_says("tessera: --format: got \"tf\", expected onnx, safetensors or pth\n");
    assert_run("export $d/run --format onnx --output logits --out $d/unwritten 2>&1", 2);
    assert_says("tessera: --output: got \"logits\", expected class, tokens or attention\n");
    assert_run("export $d/run --format pth --names keras --out $d/unwritten 2>&1", 1);
    assert_says("tessera: --names: got \"keras\"; tessera export --help lists what there is\n");
    assert_int_equal(access(file_path("unwritten"), F_OK), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_cli__help_lists_every_command),
        tsr_test(test_cli__every_command_explains_itself),
        tsr_test(test_cli__help_has_every_option_of_a_recipe),
        tsr_test(test_cli__recipes_lists_papers_and_presets),
        tsr_test(test_cli__diff_recipe_prints_only_what_differs),
        tsr_test(test_cli__help_tells_published_values_and_their_sources),
        tsr_test(test_cli__manual_has_every_flag),
        tsr_test(test_cli__completes_commands_recipes_and_options),
        tsr_test(test_cli__wrong_usage_exits_2),
        tsr_test(test_cli__failures_exit_1_with_one_line),
        tsr_test(test_cli__knn_prints_what_the_library_finds),
        tsr_test(test_cli__linear_prints_the_best_rate),
        tsr_test(test_cli__logistic_prints_the_best_penalty),
        tsr_test(test_cli__features_are_the_librarys),
        tsr_test(test_cli__cluster_prints_what_the_library_finds),
        tsr_test(test_cli__attention_draws_each_head),
        tsr_test(test_cli__data_draws_views_and_masks),
        tsr_test(test_cli__data_lists_damaged_images),
        tsr_test(test_cli__data_pack_writes_the_same_shards_each_time),
        tsr_test(test_cli__inspect_lists_and_verifies),
        tsr_test(test_cli__inspect_finds_nan),
        tsr_test(test_cli__import_makes_a_checkpoint_that_commands_open),
        tsr_test(test_cli__import_of_a_damaged_file_leaves_nothing),
        tsr_test(test_cli__imported_beit_and_swin_are_used_as_a_run),
        tsr_test(test_cli__import_resizes_and_allows),
        tsr_test(test_cli__import_refuses_in_one_line),
        tsr_test(test_cli__pretrain_starts_from_imported_weights),
        tsr_test(test_cli__finetune_starts_from_a_run),
        tsr_test(test_cli__gradcheck_checks_what_is_asked),
        tsr_test(test_cli__plan_measures_a_step),
        tsr_test(test_cli__checkpoints_of_older_versions_lack_options),
        tsr_test(test_cli__export_writes_graphs_and_weights),
        tsr_test(test_cli__round_trips_give_the_same_bytes),
        tsr_test(test_cli__export_refuses_in_one_line),
    };
    return cmocka_run_group_tests_name("cli", tests, make_run, remove_run);
}
