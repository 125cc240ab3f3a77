// Trains with different numbers of threads, which must give the same bits. Built with the thread
// sanitizer, it also shows that threads do not access the same memory without synchronization.
// With an argument, it writes all results to that file, to compare them with those of other processors.
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "memory.hpp"
#include "network.hpp"
#include "threads.hpp"

using namespace lenet;

namespace baseline { extern const Kernels kernels; }

namespace {

constexpr int IMAGES = 40;

struct Case {
  int batch;
  Activation activation;
  Pooling pooling;
  float dropout;
  Normalization normalization;
  Optimizer optimizer;
};

const Normalization NONE = {0, 0, 0}, STANDARD = {1, 0.01f, -0.4f};
const Optimizer PLAIN = {SGD, 0.01, 0.9};
const Case CASES[] = {
    {16, RELU, MAX_POOLING, 0, NONE, PLAIN},
    {16, TANH, MAX_POOLING, 0, NONE, {ADAM, 0.01, 0, 0, 0, 0, 0.9, 0.999, 1e-8}},
    {40, RELU, MAX_POOLING, 0, NONE, {ADAM, 0.01, 0, 0, 1e-3, 0, 0.8, 0.99, 1e-8, 0, 1}},  // AdamW
    {300, TANH, MAX_POOLING, 0, NONE,  // clipped
     {RMSPROP, 0.001, 0.9, 0, 1e-3, 0, 0, 0.99, 1e-8, 0.1, 0, 1}},
    {16, RELU, AVERAGE_POOLING, 0, NONE, PLAIN},
    {16, LEAKY_RELU, MAX_POOLING, 0.5f, STANDARD, PLAIN},
    {40, SIGMOID, AVERAGE_POOLING, 0.2f, STANDARD, PLAIN},
    {16, ELU, MAX_POOLING, 0, STANDARD, PLAIN},
};

// All losses, predictions and parameters after training with these numbers of threads in turn.
std::vector<float> train(const Case& settings, const std::vector<int>& threads) {
  const int batch = settings.batch;
  std::mt19937 random(7);
  std::vector<uint8_t> pixels(IMAGES * 784), labels(IMAGES), predictions(IMAGES);
  std::vector<uint8_t> keep(IMAGES * DROPPABLE);
  std::vector<int64_t> order(IMAGES);
  for (uint8_t& pixel : pixels) pixel = random() % 3 ? 0 : static_cast<uint8_t>(random());
  for (uint8_t& label : labels) label = random() % 10;
  for (int i = 0; i < IMAGES; i++) order[i] = random() % IMAGES;
  for (uint8_t& kept : keep) kept = random() % 2;

  const Kernels& kernels = baseline::kernels;
  Floats arrays[5], shared = zeros(kernels.shared_floats()), own[MAX_THREADS];
  for (Floats& array : arrays) array = zeros(PARAMETERS);
  for (Floats& memory : own) memory = zeros(kernels.own_floats(settings.pooling));
  Network net{};
  net.activation = settings.activation;
  net.pooling = settings.pooling;
  net.dropout = settings.dropout;
  net.normalization = settings.normalization;
  net.optimizer = settings.optimizer;
  net.batch = batch;
  net.parameters = arrays[0].get(), net.gradients = arrays[1].get();
  net.first = arrays[2].get(), net.second = arrays[3].get(), net.third = arrays[4].get();
  net.shared = shared.get();
  for (int i = 0; i < MAX_THREADS; i++) net.own[i] = own[i].get();
  // Every fourth parameter, so that padding stays zero in the layouts that have any.
  for (int i = 0; i < CONV1_W + 150; i++) net.parameters[i] = (random() % 1000 / 1000.0f - 0.5f) / 2;
  for (int i = CONV2_W; i < CONV2_B; i++)
    net.parameters[i] = i % 8 < 6 ? (random() % 1000 / 1000.0f - 0.5f) / 6 : 0;
  for (int row = 0; row < 400; row++)
    for (int i = 0; i < 120; i++)
      net.parameters[CONV3_W + row * 128 + i] = (random() % 1000 / 1000.0f - 0.5f) / 10;
  for (int row = 0; row < 120; row++)
    for (int i = 0; i < 84; i++)
      net.parameters[LINEAR1_W + row * 96 + i] = (random() % 1000 / 1000.0f - 0.5f) / 5;
  for (int row = 0; row < 84; row++)
    for (int i = 0; i < 10; i++)
      net.parameters[LINEAR2_W + row * 16 + i] = (random() % 1000 / 1000.0f - 0.5f) / 4;

  ThreadPool pool;
  net.pool = &pool;
  std::vector<float> results;
  for (int number : threads) {
    net.threads = number;
    std::vector<float> losses((IMAGES + batch - 1) / batch), test_losses(IMAGES);
    const std::vector<double> lrs(losses.size(), settings.optimizer.lr);
    kernels.train(&net, pixels.data(), labels.data(), order.data(), IMAGES, lrs.data(),
                  settings.dropout > 0 ? keep.data() : nullptr, losses.data());
    kernels.evaluate(&net, pixels.data(), labels.data(), IMAGES, predictions.data(),
                     test_losses.data());
    results.insert(results.end(), losses.begin(), losses.end());
    results.insert(results.end(), test_losses.begin(), test_losses.end());
    results.insert(results.end(), predictions.begin(), predictions.end());
  }
  results.insert(results.end(), net.parameters, net.parameters + PARAMETERS);
  return results;
}

// The pixels of augmented images, which are the same on all processors.
std::vector<float> augment() {
  std::mt19937 random(7);
  std::vector<uint8_t> pixels(IMAGES * 784), mapped(IMAGES * 784), displaced(IMAGES * 784);
  std::vector<int64_t> order;
  std::vector<int32_t> maps;
  std::vector<uint64_t> keys;
  std::vector<float> smooth(28 * 32), scale(28 * 32);
  for (uint8_t& pixel : pixels) pixel = static_cast<uint8_t>(random());
  for (int i = 0; i < IMAGES; i++) {
    order.push_back(random() % IMAGES);
    keys.push_back(random());
    for (int k = 0; k < 6; k++) maps.push_back(static_cast<int32_t>(random() % 131072) - 65536);
  }
  for (int i = 0; i < 28 * 32; i++) {
    smooth[i] = static_cast<float>(random() % 1000);
    scale[i] = static_cast<float>(random() % 300);
  }
  const Kernels& kernels = baseline::kernels;
  kernels.affine(pixels.data(), order.data(), IMAGES, maps.data(), mapped.data());
  kernels.elastic(pixels.data(), order.data(), IMAGES, keys.data(), smooth.data(), scale.data(), 10,
                  displaced.data());
  std::vector<float> results(mapped.begin(), mapped.end());
  results.insert(results.end(), displaced.begin(), displaced.end());
  return results;
}

}  // namespace

int main(int count, char** arguments) {
  std::FILE* file = count > 1 ? std::fopen(arguments[1], "wb") : nullptr;
  for (const Case& settings : CASES) {
    const std::vector<float> expected = train(settings, {1, 1, 1});
    const std::vector<float> threaded = train(settings, {2, 8, 3});
    if (std::memcmp(expected.data(), threaded.data(), expected.size() * sizeof(float))) {
      std::printf("batch %d: results depend on the number of threads\n", settings.batch);
      return 1;
    }
    if (file) std::fwrite(expected.data(), sizeof(float), expected.size(), file);
  }
  const std::vector<float> augmented = augment();
  if (file) std::fwrite(augmented.data(), sizeof(float), augmented.size(), file);
  if (file) std::fclose(file);
  std::printf("equal\n");
}
