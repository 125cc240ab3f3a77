// The training step (forward, loss, backward, update) for one instruction set (LENET_ISA).
#include "kernels.hpp"
#include "network.hpp"

namespace LENET_ISA {

using namespace lenet;

// Working memory of one run. It is initially zero, and padding is never written. Every array starts at
// a cache line, because loading a vector that crosses cache lines takes twice as long.
struct Scratch {
#define ARRAY(name) alignas(64) float name
  ARRAY(conv2_forward)[150 * 16];     // conv2.w as (25 taps, 6 in, 16 out)
  ARRAY(conv2_back)[BACK_COPIES * BACK_COPY];  // conv2.w surrounded by zeros
  ARRAY(conv3_back)[128 * 400];       // conv3.w transposed
  ARRAY(linear1_back)[96 * 128];      // linear1.w transposed
  ARRAY(linear2_back)[16 * 96];       // linear2.w transposed
  ARRAY(conv1_gradient)[6 * 32];      // of conv1.w, in conv1_backward's layout
  ARRAY(triples)[31 * TRIPLE_ROW + 16];
  ARRAY(halves)[CHUNK][2 * HALF + 16];
  ARRAY(a1)[CHUNK][196 * 8];
  ARRAY(a2)[CHUNK][400];
  ARRAY(a3)[CHUNK][128];
  ARRAY(a4)[CHUNK][96];
  ARRAY(logits)[CHUNK][16];
  ARRAY(da1)[196 * 8];
  ARRAY(da2)[CHUNK][400];
  ARRAY(da3)[CHUNK][128];
  ARRAY(da4)[CHUNK][96];
#undef ARRAY
  alignas(64) uint8_t winners1[CHUNK][2 * 14 * 64];
  alignas(64) uint8_t winners2[CHUNK][25 * 16];
  Ink ink[CHUNK];
  uint32_t always_inked;  // rows that conv1 must not skip: all if a weight is not finite
};

static int64_t scratch_floats() { return (int64_t)(sizeof(Scratch) / sizeof(float)); }

INLINE Activation kind_of(const Network* net) { return net->tanh ? TANH : RELU; }

static void fill_rows(float* out, int row, const float* values, int columns, int rows) {
  for (int r = 0; r < rows; r++) memcpy(out + r * row, values, columns * sizeof(float));
}

static void activate_all(Activation kind, float* values, int count) {
  for (int i = 0; i < count; i += 16) store(values + i, activate(kind, load16(values + i)));
}

static void deactivate_all(Activation kind, float* gradients, const float* values, int count) {
  for (int i = 0; i < count; i += 16)
    store(gradients + i, deactivate(kind, load16(gradients + i), load16(values + i)));
}

static void add_rows(float* out, const float* values, int row, int rows) {
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < row; i += 16) store(out + i, load16(out + i) + load16(values + r * row + i));
}

// Rearrange weights for the forward pass; needed after each update.
static void prepare_forward(const float* p, Scratch* s) {
  float zero = 0;  // becomes NaN if a weight is infinite or NaN
  for (int i = 0; i < 150; i++) zero += 0 * p[CONV1_W + i];
  s->always_inked = zero == 0 ? 0 : ~0u;
  for (int out = 0; out < 16; out++)
    for (int tap = 0; tap < 25; tap++)
      for (int in = 0; in < 6; in++)
        s->conv2_forward[(tap * 6 + in) * 16 + out] = p[CONV2_W + (out * 25 + tap) * 8 + in];
}

static void prepare_backward(const float* p, Scratch* s) {
  surround(p + CONV2_W, s->conv2_back);
  transpose(p + CONV3_W, 128, s->conv3_back, 400, 400, 120);
  transpose(p + LINEAR1_W, 96, s->linear1_back, 128, 120, 84);
  transpose(p + LINEAR2_W, 16, s->linear2_back, 96, 84, 10);
}

// Pixels of sample n -> its row of a2. Also stores what the backward pass needs.
static void convolve(Activation kind, const float* p, const uint8_t* pixels, Scratch* s, int n) {
  s->ink[n] = unpack(pixels, s->halves[n]);
  const uint32_t inked = s->ink[n].rows | s->always_inked;
  conv1_forward(kind, s->halves[n], inked, p + CONV1_W, p + CONV1_B, s->a1[n], s->winners1[n]);
  conv2_forward(kind, s->a1[n], s->conv2_forward, p + CONV2_B, s->a2[n], s->winners2[n]);
}

// The dense layers of n samples: a2 -> logits.
static void dense_forward(Activation kind, const float* p, Scratch* s, int n) {
  fill_rows(s->a3[0], 128, p + CONV3_B, 128, n);
  product(s->a2[0], 400, 1, p + CONV3_W, 128, s->a3[0], 128, n, 400, 128);
  activate_all(kind, s->a3[0], n * 128);
  fill_rows(s->a4[0], 96, p + LINEAR1_B, 96, n);
  product(s->a3[0], 128, 1, p + LINEAR1_W, 96, s->a4[0], 96, n, 120, 96);
  activate_all(kind, s->a4[0], n * 96);
  fill_rows(s->logits[0], 16, p + LINEAR2_B, 16, n);
  product(s->a4[0], 96, 1, p + LINEAR2_W, 16, s->logits[0], 16, n, 84, 16);
}

// Returns the loss of a sample and replaces its logits by log-probabilities.
static float log_softmax(float* logits, int label) {
  float most = logits[0];
  for (int i = 1; i < 10; i++) most = logits[i] > most || logits[i] != logits[i] ? logits[i] : most;
  float sum = 0;
  for (int i = 0; i < 10; i++) sum += expf(logits[i] - most);
  float log_sum = logf(sum) + most;
  for (int i = 0; i < 10; i++) logits[i] -= log_sum;
  return -logits[label];
}

// Backward pass of the dense layers: log-probabilities -> da2. Adds to their gradients. share is the
// weight of a sample, 1 / batch.
static void dense_backward(Activation kind, const uint8_t* labels, const int64_t* order,
                           float share, float* g, Scratch* s, int n) {
  float* d = s->logits[0];  // becomes the gradient of the logits: (softmax - one-hot) / batch
  for (int i = 0; i < n; i++) {
    for (int k = 0; k < 10; k++) d[i * 16 + k] = expf(d[i * 16 + k]) * share;
    d[i * 16 + labels[order[i]]] -= share;
  }
  add_rows(g + LINEAR2_B, d, 16, n);
  product(s->a4[0], 1, 96, d, 16, g + LINEAR2_W, 16, 84, n, 16);
  memset(s->da4, 0, n * sizeof(s->da4[0]));
  product(d, 16, 1, s->linear2_back, 96, s->da4[0], 96, n, 10, 96);
  deactivate_all(kind, s->da4[0], s->a4[0], n * 96);

  add_rows(g + LINEAR1_B, s->da4[0], 96, n);
  product(s->a3[0], 1, 128, s->da4[0], 96, g + LINEAR1_W, 96, 120, n, 96);
  memset(s->da3, 0, n * sizeof(s->da3[0]));
  product(s->da4[0], 96, 1, s->linear1_back, 128, s->da3[0], 128, n, 84, 128);
  deactivate_all(kind, s->da3[0], s->a3[0], n * 128);

  add_rows(g + CONV3_B, s->da3[0], 128, n);
  product(s->a2[0], 1, 400, s->da3[0], 128, g + CONV3_W, 128, 400, n, 128);
  memset(s->da2, 0, n * sizeof(s->da2[0]));
  product(s->da3[0], 128, 1, s->conv3_back, 400, s->da2[0], 400, n, 120, 400);
}

// One step of torch.optim.SGD or torch.optim.Adam, with the same order of operations.
static void update(Network* net) {
  const Optimizer& o = net->optimizer;
  float *p = net->parameters, *g = net->gradients, *m = net->first, *v = net->second;
  const float lr = (float)o.lr, decay = (float)o.weight_decay;
  net->steps++;
  if (o.adam) {
    const double steps = (double)net->steps;
    const float correction2 = (float)sqrt(1 - pow(o.beta2, steps));
    const float size = (float)(o.lr / (1 - pow(o.beta1, steps)));
    const float keep2 = (float)o.beta2, take1 = (float)(1 - o.beta1), take2 = (float)(1 - o.beta2);
    const float eps = (float)o.eps;
    for (int i = 0; i < PARAMETERS; i++) {
      const float gradient = g[i] + decay * p[i];
      m[i] += take1 * (gradient - m[i]);
      v[i] = keep2 * v[i] + take2 * gradient * gradient;
      p[i] -= size * m[i] / (sqrtf(v[i]) / correction2 + eps);
    }
    return;
  }
  if (o.momentum == 0) {
    for (int i = 0; i < PARAMETERS; i++) p[i] -= lr * (g[i] + decay * p[i]);
    return;
  }
  const float keep = net->steps == 1 ? 0.0f : (float)o.momentum;  // the first step copies the gradient
  const float take = net->steps == 1 ? 1.0f : (float)(1 - o.dampening);
  const float ahead = (float)o.momentum;
  for (int i = 0; i < PARAMETERS; i++) {
    const float gradient = g[i] + decay * p[i];
    m[i] = keep * m[i] + take * gradient;
    p[i] -= lr * (o.nesterov ? gradient + ahead * m[i] : m[i]);
  }
}

// Shuffled images are not in a cache, so the next one is fetched while the current one is processed.
INLINE void prefetch(const uint8_t* pixels) {
  for (int i = 0; i < 784; i += 64) __builtin_prefetch(pixels + i);
  __builtin_prefetch(pixels + 783);
}

static void train(Network* net, const uint8_t* images, const uint8_t* labels, const int64_t* order,
                  int64_t count, float* losses) {
  Scratch* s = (Scratch*)net->scratch;
  const Activation kind = kind_of(net);
  float *p = net->parameters, *g = net->gradients;
  for (int64_t start = 0; start < count; start += net->batch) {
    const int64_t size = count - start < net->batch ? count - start : net->batch;
    prepare_forward(p, s);
    prepare_backward(p, s);
    memset(g, 0, PARAMETERS * sizeof(float));
    memset(s->conv1_gradient, 0, sizeof s->conv1_gradient);
    double loss = 0;
    for (int64_t done = 0; done < size; done += CHUNK) {
      const int n = (int)(size - done < CHUNK ? size - done : CHUNK);
      const int64_t* chunk = order + start + done;
      for (int i = 0; i < n; i++) {
        if (start + done + i + 1 < count) prefetch(images + chunk[i + 1] * 784);
        convolve(kind, p, images + chunk[i] * 784, s, i);
      }
      dense_forward(kind, p, s, n);
      for (int i = 0; i < n; i++) loss += log_softmax(s->logits[i], labels[chunk[i]]);
      dense_backward(kind, labels, chunk, 1.0f / (float)size, g, s, n);
      for (int i = 0; i < n; i++) {
        conv2_backward(kind, s->a1[i], s->a2[i], s->winners2[i], s->da2[i], s->conv2_back, s->da1,
                       g + CONV2_W, g + CONV2_B);
        interleave_rows(s->halves[i], s->triples);
        conv1_backward(kind, s->triples, s->ink[i], s->a1[i], s->winners1[i], s->da1,
                       s->conv1_gradient, g + CONV1_B);
      }
    }
    unpack_conv1_gradient(s->conv1_gradient, g + CONV1_W);
    update(net);
    *losses++ = (float)(loss / (double)size);
  }
}

static void evaluate(Network* net, const uint8_t* images, const uint8_t* labels, int64_t count,
                     uint8_t* predictions, float* losses) {
  Scratch* s = (Scratch*)net->scratch;
  const Activation kind = kind_of(net);
  prepare_forward(net->parameters, s);
  for (int64_t start = 0; start < count; start += CHUNK) {
    const int n = (int)(count - start < CHUNK ? count - start : CHUNK);
    for (int i = 0; i < n; i++)
      convolve(kind, net->parameters, images + (start + i) * 784, s, i);
    dense_forward(kind, net->parameters, s, n);
    for (int i = 0; i < n; i++) {
      float* z = s->logits[i];
      losses[start + i] = log_softmax(z, labels[start + i]);
      int best = 0;
      for (int k = 1; k < 10; k++) best = z[k] > z[best] ? k : best;
      predictions[start + i] = (uint8_t)best;
    }
  }
}

#define NAME_OF(isa) #isa
#define NAME(isa) NAME_OF(isa)
extern const Kernels kernels;
const Kernels kernels = {NAME(LENET_ISA), scratch_floats, train, evaluate};

}  // namespace LENET_ISA
