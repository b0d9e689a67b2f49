/* Optimizers and clipping against PyTorch 2.13 (f64 runs, whose numbers are below) and naive loops. */
#include "../../test.h"
#include "ops/ops.h"
#include "recipes/train/optimizer.h"

enum { A = 6, B = 3 };

/* sin(start + 1.7 i) times factor: what the PyTorch runs were fed. */
static tsr_tensor *wave(tsr_dtype dtype, tsr_shape shape, double start, double factor)
{
    tsr_tensor *t = tsr_empty(TSR_DTYPE_F64, shape);
    double *x = tsr_tensor_data_mut(t);
    for (int64_t i = 0; i < tsr_tensor_numel(t); i++) {
        x[i] = sin(start + 1.7 * (double)i) * factor;
    }
    tsr_tensor *y = tsr_empty(dtype, shape);
    tsr_tensor_copy(y, t);
    return y;
}

static void assert_values(tsr_tensor *t, const double *wanted, double tolerance)
{
    tsr_tensor *w = tsr_from(TSR_DTYPE_F64, tsr_tensor_shape(t), wanted);
    assert_close(t, w, tolerance);
}

static tsr_tensor *state_named(tsr_optimizer *o, const char *name)
{
    int64_t n;
    const tsr_named_tensor *all = tsr_optimizer_state(o, &n);
    for (int64_t i = 0; i < n; i++) {
        if (strcmp(all[i].name, name) == 0) return all[i].tensor;
    }
    fail_msg("no state %s", name);
    return NULL;
}

/*
 * a = Parameter(sin(.3 + 1.7 i).reshape(2, 3)), weight decay .1; b = Parameter(sin(.9 + 1.7 i)), none. Five steps s at
 * learning rate .01 (s + 1) with a.grad = .5 sin(1.1 + s + ...), b.grad = None if s in (0, 2) else 3 sin(2.2 + s + ...).
 */
static tsr_optimizer *run(tsr_dtype dtype, const tsr_optimizer_options *options, tsr_tensor **a,
                          tsr_tensor **b)
{
    *a = tsr_require_grad(wave(dtype, TSR_SHAPE(2, 3), 0.3, 1.0), true);
    *b = tsr_require_grad(wave(dtype, TSR_SHAPE(B), 0.9, 1.0), true);
    tsr_optimizer_parameter parameters[] = {
        {.name = "a", .tensor = *a, .decays = true},
        {.name = "b", .tensor = *b},
    };
    tsr_optimizer *o = tsr_optimizer_make(parameters, 2, options);
    assert_ok();
    for (int s = 0; s < 5; s++) {
        tsr_tensor_set_grad(*a, wave(dtype, TSR_SHAPE(2, 3), 1.1 + s, 0.5));
        tsr_tensor_set_grad(*b, wave(dtype, TSR_SHAPE(B), 2.2 + s, 3.0));
        if (s == 0 || s == 2) tsr_tensor_set_grad(*b, NULL);
        assert_int_equal(tsr_optimizer_step(o, 0.01 * (s + 1), 0.1), TSR_STATUS_OK);
        assert_int_equal(tsr_optimizer_zero_grad(o), TSR_STATUS_OK);
        assert_null(tsr_tensor_grad(*a));
    }
    return o;
}

static void test_optimizer__adamw_is_pytorchs(void **state)
{
    (void)state;
    static const double wanted_a[] = {0.23540124132051221, 0.95956378468572645,
                                      -0.4818928770650362, -0.83427818654535446,
                                      0.6951385907257116,  0.66955125271797389};
    static const double wanted_b[] = {0.86790378590516648, 0.52825022058243953,
                                      -1.0028575199853711};
    static const double wanted_m[] = {-0.020729148424569979, -0.047859031033537856,
                                      0.033061893726549989,  0.039339345078238448,
                                      -0.043199209771595588, -0.028207384404263409};
    static const double wanted_v[] = {0.13951057266220082, 0.40549953781913683,
                                      0.11738819981002005};
    for (int type = 0; type < 2; type++) {
        tsr_dtype dtype = type == 0 ? TSR_DTYPE_F64 : TSR_DTYPE_F32;
        double tolerance = type == 0 ? 1e-14 : 1e-6;
        tsr_tensor *a, *b;
        tsr_optimizer *o = run(dtype, &(tsr_optimizer_options){.beta2 = 0.98, .eps = 1e-6}, &a, &b);
        assert_values(a, wanted_a, tolerance);
        assert_values(b, wanted_b, tolerance);
        assert_values(state_named(o, "exp_avg/a"), wanted_m, tolerance);
        assert_values(state_named(o, "exp_avg_sq/b"), wanted_v, tolerance);
        assert_true(tsr_tensor_item(state_named(o, "step/a")) == 5.0);
        assert_true(tsr_tensor_item(state_named(o, "step/b")) == 3.0);
        tsr_optimizer_free(&o);
    }
}

static void test_optimizer__sgd_is_pytorchs(void **state)
{
    (void)state;
    static const double wanted_a[] = {0.25882920744324733,  0.94000506614266188,
                                      -0.50105816220801203, -0.81088789509798953,
                                      0.7100150437565379,   0.62792483658793674};
    static const double wanted_b[] = {1.0225297215666949, 0.47441268547366217, -1.1447806466611663};
    static const double wanted_m[] = {-2.4816377375618108, 2.498770443812278, 1.8377321091746186};
    for (int type = 0; type < 2; type++) {
        tsr_dtype dtype = type == 0 ? TSR_DTYPE_F64 : TSR_DTYPE_F32;
        double tolerance = type == 0 ? 1e-14 : 1e-6;
        tsr_tensor *a, *b;
        tsr_optimizer_options options = {.kind = TSR_OPTIMIZER_SGD, .momentum = 0.8};
        tsr_optimizer *o = run(dtype, &options, &a, &b);
        assert_values(a, wanted_a, tolerance);
        assert_values(b, wanted_b, tolerance);
        assert_values(state_named(o, "momentum/b"), wanted_m, tolerance);
        tsr_optimizer_free(&o);
    }
}

/* LARS of iBOT's utils.py, written out. */
static void naive_lars(double *p, double *mu, const double *g, int n, bool line, double lr,
                       double decay)
{
    double pn = 0.0, dn = 0.0, d[A];
    for (int i = 0; i < n; i++) {
        d[i] = line ? g[i] : g[i] + decay * p[i];
        pn += p[i] * p[i];
        dn += d[i] * d[i];
    }
    double q = line || pn == 0.0 || dn == 0.0 ? 1.0 : 0.001 * sqrt(pn) / sqrt(dn);
    for (int i = 0; i < n; i++) {
        mu[i] = mu[i] * 0.9 + d[i] * q;
        p[i] -= lr * mu[i];
    }
}

static void test_optimizer__lars_is_the_authors(void **state)
{
    (void)state;
    double pa[A], pb[B], ma[A] = {0}, mb[B] = {0}, g[A];
    for (int i = 0; i < A; i++) pa[i] = sin(0.3 + 1.7 * i);
    for (int i = 0; i < B; i++) pb[i] = sin(0.9 + 1.7 * i);
    for (int s = 0; s < 5; s++) {
        for (int i = 0; i < A; i++) g[i] = 0.5 * sin(1.1 + s + 1.7 * i);
        naive_lars(pa, ma, g, A, false, 0.01 * (s + 1), 0.1);
        if (s == 0 || s == 2) continue;
        for (int i = 0; i < B; i++) g[i] = 3.0 * sin(2.2 + s + 1.7 * i);
        naive_lars(pb, mb, g, B, true, 0.01 * (s + 1), 0.1);
    }
    for (int type = 0; type < 2; type++) {
        tsr_dtype dtype = type == 0 ? TSR_DTYPE_F64 : TSR_DTYPE_F32;
        double tolerance = type == 0 ? 1e-14 : 1e-6;
        tsr_tensor *a, *b;
        tsr_optimizer *o = run(dtype, &(tsr_optimizer_options){.kind = TSR_OPTIMIZER_LARS}, &a, &b);
        assert_values(a, pa, tolerance);
        assert_values(b, pb, tolerance);
        assert_values(state_named(o, "momentum/a"), ma, tolerance);
        tsr_optimizer_free(&o);
    }
}

/* What the step reads is what clipping found: the same as steps on gradients clipped by hand, and only once. */
static void test_optimizer__clips_the_next_step_alone(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        tsr_optimizer_options options = {.kind = (tsr_optimizer_kind)kind};
        tsr_tensor *x[2];
        for (int by_hand = 0; by_hand < 2; by_hand++) {
            x[by_hand] = tsr_require_grad(wave(TSR_DTYPE_F64, TSR_SHAPE(2, 3), 0.1, 1.0), true);
            tsr_optimizer_parameter p = {.name = "x", .tensor = x[by_hand], .decays = true};
            tsr_optimizer *o = tsr_optimizer_make(&p, 1, &options);
            for (int s = 0; s < 3; s++) {
                tsr_tensor *g = wave(TSR_DTYPE_F64, TSR_SHAPE(2, 3), s, 5.0);
                tsr_gradient_norms norms;
                tsr_tensor_set_grad(x[by_hand], g);
                tsr_optimizer_clip(o, by_hand || s == 2 ? TSR_CLIP_NONE : TSR_CLIP_EACH, 2.0,
                                   &norms);
                assert_true(norms.global > 5.0);
                if (by_hand && s < 2) {
                    tsr_tensor_set_grad(x[1], tsr_affine(g, 2.0 / (norms.global + 1e-6), 0.0));
                }
                tsr_optimizer_step(o, 0.1, 0.2);
            }
            tsr_optimizer_free(&o);
        }
        assert_ok();
        assert_close(x[0], x[1], 1e-15);
    }
}

/* In one pass what a step and tsr_module_ema() give in two; a parameter without a gradient is averaged too. */
static void test_optimizer__averages_in_the_step(void **state)
{
    (void)state;
    for (int type = 0; type < 2; type++) {
        tsr_dtype dtype = type == 0 ? TSR_DTYPE_F64 : TSR_DTYPE_F32;
        tsr_optimizer_parameter p[3] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
        tsr_tensor *average[3];
        for (int k = 0; k < 3; k++) {
            p[k].tensor = tsr_require_grad(wave(dtype, TSR_SHAPE(5), k, 1.0), true);
            average[k] = wave(dtype, TSR_SHAPE(5), k + 0.5, 1.0);
            p[k].average = k == 2 ? NULL : average[k];
            if (k != 1) tsr_tensor_set_grad(p[k].tensor, wave(dtype, TSR_SHAPE(5), k + 7, 1.0));
        }
        tsr_tensor *frozen = wave(dtype, TSR_SHAPE(5), 1.0, 1.0);
        tsr_tensor *wanted[3];
        tsr_optimizer *o = tsr_optimizer_make(p, 3, NULL);
        tsr_optimizer_step(o, 0.1, 0.0); /* leaves averages alone */
        for (int k = 0; k < 2; k++) assert_same(average[k], wave(dtype, TSR_SHAPE(5), k + 0.5, 1));
        tsr_tensor *untouched = tsr_tensor_packed(tsr_affine(average[2], 1.0, 0.0));
        for (int k = 0; k < 2; k++) wanted[k] = tsr_affine(average[k], 0.75, 0.0);
        tsr_optimizer_step_average(o, 0.1, 0.0, 0.75);
        assert_ok();
        for (int k = 0; k < 2; k++) {
            wanted[k] = tsr_add(wanted[k], tsr_affine(tsr_detach(p[k].tensor), 0.25, 0.0));
            assert_same(average[k], wanted[k]);
        }
        assert_same(tsr_detach(p[1].tensor), frozen);
        assert_same(average[2], untouched);
        tsr_optimizer_step_average(o, 0.1, 0.0, 1.5);
        assert_failed(TSR_STATUS_ARGUMENT, "momentum is 1.5");
        tsr_optimizer_free(&o);
    }
}

/* A parameter of zeros, and a gradient of zeros: the scale is 1, not 0 / 0. */
static void test_optimizer__lars_survives_zero_norms(void **state)
{
    (void)state;
    tsr_tensor *a = tsr_require_grad(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 2)), true);
    tsr_tensor *b = tsr_require_grad(tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2, 2), 2.0), true);
    tsr_optimizer_parameter parameters[] = {{.name = "a", .tensor = a}, {.name = "b", .tensor = b}};
    tsr_optimizer *o =
        tsr_optimizer_make(parameters, 2, &(tsr_optimizer_options){.kind = TSR_OPTIMIZER_LARS});
    tsr_tensor_set_grad(a, tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2, 2), 1.0));
    tsr_tensor_set_grad(b, tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 2)));
    tsr_optimizer_step(o, 0.5, 0.0);
    assert_close(a, tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2, 2), -0.5), 0.0);
    assert_close(b, tsr_full(TSR_DTYPE_F32, TSR_SHAPE(2, 2), 2.0), 0.0);
    tsr_optimizer_free(&o);
}

static void test_optimizer__lr_scale_scales_step_and_decay(void **state)
{
    (void)state;
    tsr_tensor *a = tsr_require_grad(wave(TSR_DTYPE_F64, TSR_SHAPE(5), 0.1, 1.0), true);
    tsr_tensor *b = tsr_require_grad(wave(TSR_DTYPE_F64, TSR_SHAPE(5), 0.1, 1.0), true);
    tsr_optimizer_parameter pa = {.name = "a", .tensor = a, .decays = true, .lr_scale = 0.25};
    tsr_optimizer_parameter pb = {.name = "b", .tensor = b, .decays = true};
    tsr_optimizer *oa = tsr_optimizer_make(&pa, 1, NULL), *ob = tsr_optimizer_make(&pb, 1, NULL);
    for (int s = 0; s < 3; s++) {
        tsr_tensor_set_grad(a, wave(TSR_DTYPE_F64, TSR_SHAPE(5), s, 1.0));
        tsr_tensor_set_grad(b, wave(TSR_DTYPE_F64, TSR_SHAPE(5), s, 1.0));
        tsr_optimizer_step(oa, 0.4, 0.3);
        tsr_optimizer_step(ob, 0.1, 0.3);
    }
    assert_same(a, b);
    tsr_optimizer_free(&oa);
    tsr_optimizer_free(&ob);
}

static void test_optimizer__resumes_from_its_state(void **state)
{
    (void)state;
    static const tsr_optimizer_kind kinds[] = {TSR_OPTIMIZER_ADAMW, TSR_OPTIMIZER_SGD,
                                               TSR_OPTIMIZER_LARS};
    for (int k = 0; k < 3; k++) {
        tsr_tensor *a = tsr_require_grad(wave(TSR_DTYPE_F32, TSR_SHAPE(4, 7), 0.1, 1.0), true);
        tsr_tensor *b = tsr_require_grad(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(4, 7)), true);
        tsr_optimizer_options options = {.kind = kinds[k]};
        tsr_optimizer_parameter pa = {.name = "w", .tensor = a, .decays = true};
        tsr_optimizer_parameter pb = {.name = "w", .tensor = b, .decays = true};
        tsr_optimizer *oa = tsr_optimizer_make(&pa, 1, &options);
        tsr_optimizer *ob = tsr_optimizer_make(&pb, 1, &options);
        for (int s = 0; s < 6; s++) {
            if (s == 3) { /* as loading a checkpoint does */
                int64_t n, m;
                const tsr_named_tensor *from = tsr_optimizer_state(oa, &n);
                const tsr_named_tensor *to = tsr_optimizer_state(ob, &m);
                assert_int_equal(n, k == 0 ? 3 : 1);
                assert_int_equal(n, m);
                for (int64_t i = 0; i < n; i++) {
                    assert_string_equal(from[i].name, to[i].name);
                    tsr_tensor_copy(to[i].tensor, from[i].tensor);
                }
                tsr_tensor_copy(b, a);
            }
            tsr_tensor_set_grad(a, wave(TSR_DTYPE_F32, TSR_SHAPE(4, 7), s, 1.0));
            tsr_optimizer_step(oa, 0.1, 0.2);
            if (s < 3) continue;
            tsr_tensor_set_grad(b, wave(TSR_DTYPE_F32, TSR_SHAPE(4, 7), s, 1.0));
            tsr_optimizer_step(ob, 0.1, 0.2);
        }
        assert_same(a, b);
        tsr_optimizer_free(&oa);
        tsr_optimizer_free(&ob);
    }
}

/* A gradient that is a transposed view is read, and clipped, in the parameter's order. */
static void test_optimizer__takes_gradients_of_any_strides(void **state)
{
    (void)state;
    tsr_tensor *g = wave(TSR_DTYPE_F64, TSR_SHAPE(3, 2), 0.4, 9.0);
    tsr_tensor *view = tsr_tensor_view(g, TSR_SHAPE(2, 3), (int64_t[]){1, 2}, 0);
    tsr_tensor *x[2];
    for (int k = 0; k < 2; k++) {
        x[k] = tsr_require_grad(wave(TSR_DTYPE_F64, TSR_SHAPE(2, 3), 0.1, 1.0), true);
        tsr_optimizer_parameter p = {.name = "x", .tensor = x[k]};
        tsr_optimizer *o = tsr_optimizer_make(&p, 1, NULL);
        tsr_tensor_set_grad(x[k], k == 0 ? view : tsr_tensor_packed(view));
        tsr_optimizer_clip(o, TSR_CLIP_EACH, 1.0, NULL);
        tsr_optimizer_step(o, 0.1, 0.0);
        tsr_optimizer_free(&o);
    }
    assert_ok();
    assert_same(x[0], x[1]);
    assert_same(tsr_tensor_grad(x[0]), tsr_tensor_grad(x[1]));
}

/* Three gradients: 4 sin(.3 + 1.7 i) of 6, .1 sin(.9 + ...) of 3, 2 sin(.4 + ...) of 2, max_norm 1.5; a fourth parameter
 * has none. */
static tsr_gradient_norms clip(tsr_dtype dtype, tsr_clip mode, const double *wanted,
                               double tolerance)
{
    tsr_optimizer_parameter p[4] = {{.name = "a"}, {.name = "b"}, {.name = "c"}, {.name = "d"}};
    static const int64_t sizes[] = {6, 3, 2, 4};
    static const double starts[] = {0.3, 0.9, 0.4, 0.0}, factors[] = {4.0, 0.1, 2.0, 0.0};
    for (int k = 0; k < 4; k++) {
        p[k].tensor = tsr_require_grad(tsr_zeros(dtype, TSR_SHAPE(sizes[k])), true);
        tsr_tensor *g = wave(dtype, TSR_SHAPE(sizes[k]), starts[k], factors[k]);
        if (k < 3) tsr_tensor_set_grad(p[k].tensor, g);
    }
    /* From p = 0 a step of SGD at lr 1 shows -g. */
    tsr_optimizer *o =
        tsr_optimizer_make(p, 4, &(tsr_optimizer_options){.kind = TSR_OPTIMIZER_SGD});
    tsr_gradient_norms norms = {0};
    assert_int_equal(tsr_optimizer_clip(o, mode, 1.5, &norms), TSR_STATUS_OK);
    assert_int_equal(tsr_optimizer_step(o, 1.0, 0.0), TSR_STATUS_OK);
    for (int k = 0; k < 3; k++) {
        assert_values(tsr_neg(p[k].tensor), wanted, tolerance);
        wanted += sizes[k];
    }
    assert_null(tsr_tensor_grad(p[3].tensor));
    tsr_optimizer_free(&o);
    return norms;
}

static void test_optimizer__clip_is_pytorchs(void **state)
{
    (void)state;
    static const double global[] = {
        0.26071530090968309,   0.80220488111303068, -0.46743466536650274, -0.68175211496234112,
        0.64311467834095726,   0.516028543952601,   0.017276763682374834, 0.011369704358981976,
        -0.020206611299220145, 0.17177728968479325, 0.38077242215762114};
    static const double each[] = {0.27150847307406595,  0.83541480535894452,  -0.48678566932100048,
                                  -0.70997549857099918, 0.66973853747218726,  0.5373912522293417,
                                  0.07833269096274835,  0.051550137182146419, -0.091616593674945498,
                                  0.61682957605393396,  1.3673035135406915};
    for (int type = 0; type < 2; type++) {
        tsr_dtype dtype = type == 0 ? TSR_DTYPE_F64 : TSR_DTYPE_F32;
        double tolerance = type == 0 ? 1e-14 : 1e-6;
        tsr_gradient_norms a = clip(dtype, TSR_CLIP_GLOBAL, global, tolerance);
        tsr_gradient_norms b = clip(dtype, TSR_CLIP_EACH, each, tolerance);
        assert_true(fabs(a.global - 6.8009854928575146) <= 8 * tolerance);
        assert_true(fabs(a.sum - 8.5556940573608262) <= 8 * tolerance);
        assert_true(a.global == b.global && a.sum == b.sum);
    }
}

static void test_optimizer__clip_none_only_measures(void **state)
{
    (void)state;
    double same[11];
    for (int i = 0; i < 11; i++) {
        same[i] = i < 6   ? 4.0 * sin(0.3 + 1.7 * i)
                  : i < 9 ? 0.1 * sin(0.9 + 1.7 * (i - 6))
                          : 2.0 * sin(0.4 + 1.7 * (i - 9));
    }
    tsr_gradient_norms norms = clip(TSR_DTYPE_F64, TSR_CLIP_NONE, same, 0.0);
    assert_true(fabs(norms.global - 6.8009854928575146) <= 1e-14 * 8);
}

static void test_optimizer__clip_reports_what_is_not_finite(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_require_grad(tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(3)), true);
    tsr_optimizer_parameter p = {.name = "x", .tensor = x};
    tsr_optimizer *o = tsr_optimizer_make(&p, 1, NULL);
    tsr_gradient_norms norms;
    tsr_tensor_set_grad(x, tsr_from(TSR_DTYPE_F32, TSR_SHAPE(3), (float[]){1, NAN, 2}));
    tsr_optimizer_clip(o, TSR_CLIP_GLOBAL, 1.0, &norms);
    assert_true(isnan(norms.global) && isnan(norms.sum));
    assert_false(tsr_tensor_is_finite(tsr_tensor_grad(x)));
    tsr_tensor_set_grad(x, tsr_from(TSR_DTYPE_F32, TSR_SHAPE(3), (float[]){1, INFINITY, 2}));
    tsr_optimizer_clip(o, TSR_CLIP_EACH, 1.0, &norms);
    assert_true(isinf(norms.global));
    assert_false(tsr_tensor_is_finite(tsr_tensor_grad(x)));
    tsr_optimizer_free(&o);
    assert_ok();
}

/* Sizes around the chunk, many and few chunks, at 1, 2, 3 and 4 threads. */
static void test_optimizer__same_bits_at_any_thread_count(void **state)
{
    (void)state;
    static const int64_t sizes[] = {100003, 1, 0, 16384, 16385, 40000};
    enum { N = sizeof sizes / sizeof *sizes };
    int before = tsr_threads();
    for (int kind = 0; kind < 3; kind++) {
        tsr_tensor *first[N] = {0};
        tsr_gradient_norms norms[5];
        for (int threads = 1; threads <= 4; threads++) {
            tsr_threads_set(threads);
            tsr_optimizer_parameter p[N];
            char names[N][8];
            for (int k = 0; k < N; k++) {
                snprintf(names[k], sizeof names[k], "p%d", k);
                tsr_tensor *x = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(sizes[k], 1));
                tsr_fill_normal(x, tsr_rng_make(1, 0, (uint32_t)k, 0), 0.0, 1.0);
                p[k] = (tsr_optimizer_parameter){
                    .name = names[k], .tensor = tsr_require_grad(x, true), .decays = true};
            }
            tsr_optimizer *o = tsr_optimizer_make(
                p, N, &(tsr_optimizer_options){.kind = (tsr_optimizer_kind)kind});
            for (uint32_t s = 0; s < 3; s++) {
                for (int k = 0; k < N; k++) {
                    tsr_tensor *g = tsr_empty(TSR_DTYPE_F32, TSR_SHAPE(sizes[k], 1));
                    tsr_fill_normal(g, tsr_rng_make(2, s, (uint32_t)k, 0), 0.0, 1.0);
                    tsr_tensor_set_grad(p[k].tensor, g);
                }
                tsr_optimizer_clip(o, s == 0 ? TSR_CLIP_EACH : TSR_CLIP_GLOBAL, 3.0,
                                   &norms[threads]);
                tsr_optimizer_step(o, 0.01, 0.1);
            }
            assert_ok();
            for (int k = 0; k < N; k++) {
                if (threads == 1) first[k] = p[k].tensor;
                assert_same(p[k].tensor, first[k]);
            }
            assert_memory_equal(&norms[threads], &norms[1], sizeof norms[1]);
            tsr_optimizer_free(&o);
        }
    }
    tsr_threads_set(before);
}

static void test_optimizer__refuses(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2, 3));
    tsr_tensor *view = tsr_tensor_view(x, TSR_SHAPE(3, 2), (int64_t[]){1, 3}, 0);
    tsr_tensor *y = tsr_zeros(TSR_DTYPE_F32, TSR_SHAPE(2));
    tsr_tensor *half = tsr_zeros(TSR_DTYPE_BF16, TSR_SHAPE(2));
    tsr_optimizer_parameter p[2] = {{.name = "x", .tensor = x}, {.name = "x", .tensor = y}};
    assert_null(tsr_optimizer_make(p, 2, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "two parameters are named x");
    p[1] = (tsr_optimizer_parameter){.name = "y", .tensor = x};
    assert_null(tsr_optimizer_make(p, 2, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "x and y are the same tensor");
    p[1].tensor = view;
    assert_null(tsr_optimizer_make(p, 2, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "y is a view");
    p[1].tensor = half;
    assert_null(tsr_optimizer_make(p, 2, NULL));
    assert_failed(TSR_STATUS_DTYPE, "y is bf16");
    p[1].tensor = NULL;
    assert_null(tsr_optimizer_make(p, 2, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "y is NULL");
    p[1] = (tsr_optimizer_parameter){.name = "y", .tensor = y, .average = x};
    assert_null(tsr_optimizer_make(p, 2, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "the average of y is f32 [2, 3], expected f32 [2]");
    p[1] = (tsr_optimizer_parameter){.name = NULL, .tensor = y};
    assert_null(tsr_optimizer_make(p, 2, NULL));
    assert_failed(TSR_STATUS_ARGUMENT, "parameter 1 has no name");
    assert_null(tsr_optimizer_make(p, 1, &(tsr_optimizer_options){.beta2 = 1.0}));
    assert_failed(TSR_STATUS_ARGUMENT, "betas are 0.9 and 1");
    tsr_optimizer *o = tsr_optimizer_make(p, 1, NULL);
    assert_ok();
    tsr_optimizer_step(o, NAN, 0.0);
    assert_failed(TSR_STATUS_ARGUMENT, "lr is nan");
    tsr_optimizer_clip(o, TSR_CLIP_EACH, 0.0, NULL);
    assert_failed(TSR_STATUS_ARGUMENT, "max_norm is 0");
    tsr_optimizer_free(&o);
    assert_null(o);
    tsr_optimizer_free(&o);
    tsr_optimizer_free(NULL);
}

/* After a failure upstream nothing moves. */
static void test_optimizer__does_nothing_after_a_failure(void **state)
{
    (void)state;
    tsr_tensor *x = tsr_require_grad(tsr_full(TSR_DTYPE_F32, TSR_SHAPE(3), 1.0), true);
    tsr_optimizer_parameter p = {.name = "x", .tensor = x, .decays = true};
    tsr_optimizer *o = tsr_optimizer_make(&p, 1, NULL);
    tsr_tensor_set_grad(x, tsr_full(TSR_DTYPE_F32, TSR_SHAPE(3), 1.0));
    tsr_fail(TSR_STATUS_NUMERIC, "earlier");
    assert_int_equal(tsr_optimizer_step(o, 0.1, 0.1), TSR_STATUS_NUMERIC);
    tsr_status_clear();
    assert_close(x, tsr_full(TSR_DTYPE_F32, TSR_SHAPE(3), 1.0), 0.0);
    assert_true(tsr_tensor_item(state_named(o, "step/x")) == 0.0);
    tsr_optimizer_free(&o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        tsr_test(test_optimizer__adamw_is_pytorchs),
        tsr_test(test_optimizer__sgd_is_pytorchs),
        tsr_test(test_optimizer__lars_is_the_authors),
        tsr_test(test_optimizer__lars_survives_zero_norms),
        tsr_test(test_optimizer__lr_scale_scales_step_and_decay),
        tsr_test(test_optimizer__resumes_from_its_state),
        tsr_test(test_optimizer__takes_gradients_of_any_strides),
        tsr_test(test_optimizer__clips_the_next_step_alone),
        tsr_test(test_optimizer__averages_in_the_step),
        tsr_test(test_optimizer__clip_is_pytorchs),
        tsr_test(test_optimizer__clip_none_only_measures),
        tsr_test(test_optimizer__clip_reports_what_is_not_finite),
        tsr_test(test_optimizer__same_bits_at_any_thread_count),
        tsr_test(test_optimizer__refuses),
        tsr_test(test_optimizer__does_nothing_after_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
