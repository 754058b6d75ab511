// What tch lacks: an autograd node whose backward is a callback, and libtorch's own thread pool.
// The Rust side is native.rs; every function here is declared there and nowhere else.

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/record_function.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/saved_variable.h>
#include <torch/csrc/autograd/variable.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

using torch::autograd::SavedVariable;
using torch::autograd::variable_list;

extern "C" {
// Gradients of the inputs from the saved tensors and the gradients of the outputs (null: no gradient came). Writes one
// owned tensor or null an input. Returns null, or what went wrong in memory that stays valid until the next call.
typedef const char *(*mixers_backward)(void *state, at::Tensor *const *saved, size_t n_saved, at::Tensor *const *grads,
                                       size_t n_grads, at::Tensor **out, size_t n_out);
typedef void (*mixers_drop)(void *state);

// One operation that libtorch ran: its name, and the sizes of its tensor inputs one after the other.
typedef void (*mixers_seen)(void *context, const char *name, const int64_t *sizes, const size_t *ranks, size_t tensors);
}

namespace {

struct Callback : public torch::autograd::Node {
  void *state;
  mixers_backward backward;
  mixers_drop drop;
  size_t inputs;
  std::vector<SavedVariable> saved;

  ~Callback() override { drop(state); }

  void release_variables() override { saved.clear(); }

  std::string name() const override { return "mixers::native"; }

  variable_list apply(variable_list &&grads) override {
    if (at::GradMode::is_enabled()) {
      throw std::runtime_error("a native kernel has no second derivative");
    }
    std::vector<at::Tensor> kept;
    kept.reserve(saved.size());
    for (auto &s : saved) {
      kept.push_back(s.unpack(getptr()));
    }
    std::vector<at::Tensor *> kept_ptrs, grad_ptrs;
    for (auto &t : kept) {
      kept_ptrs.push_back(&t);
    }
    for (auto &g : grads) {
      grad_ptrs.push_back(g.defined() ? &g : nullptr);
    }
    std::vector<at::Tensor *> out(inputs, nullptr);
    const char *problem = backward(state, kept_ptrs.data(), kept_ptrs.size(), grad_ptrs.data(), grad_ptrs.size(),
                                   out.data(), out.size());
    variable_list result(inputs);
    for (size_t i = 0; i < inputs; ++i) {
      if (out[i]) {
        result[i] = std::move(*out[i]);
        delete out[i];
      }
    }
    if (problem) {
      throw std::runtime_error(problem);
    }
    return result;
  }
};

thread_local mixers_seen seen = nullptr;
thread_local void *seen_context = nullptr;

std::unique_ptr<at::ObserverContext> tell(const at::RecordFunction &op) {
  if (seen) {
    std::vector<int64_t> sizes;
    std::vector<size_t> ranks;
    for (const auto &input : op.inputs()) {
      if (input.isTensor() && input.toTensor().defined()) {
        auto shape = input.toTensor().sizes();
        sizes.insert(sizes.end(), shape.begin(), shape.end());
        ranks.push_back(shape.size());
      }
    }
    seen(seen_context, op.name(), sizes.data(), ranks.data(), ranks.size());
  }
  return nullptr;
}

void copy_message(const char *what, char *message, size_t capacity) {
  std::strncpy(message, what, capacity - 1);
  message[capacity - 1] = '\0';
}

} // namespace

extern "C" {

// Makes `outputs`, computed without a graph, the results of one node over `inputs`. Takes `state` over in every case.
// Returns 0, or 1 with the reason in `message`.
int mixers_attach(void *state, mixers_backward backward, mixers_drop drop, at::Tensor *const *inputs, size_t n_inputs,
                  at::Tensor *const *outputs, size_t n_outputs, at::Tensor *const *saved, size_t n_saved, char *message,
                  size_t capacity) {
  auto *raw = new Callback();
  raw->state = state;
  raw->backward = backward;
  raw->drop = drop;
  raw->inputs = n_inputs;
  std::shared_ptr<Callback> node(raw, torch::autograd::deleteNode);
  try {
    variable_list in;
    for (size_t i = 0; i < n_inputs; ++i) {
      in.push_back(*inputs[i]);
    }
    if (!torch::autograd::compute_requires_grad(in)) {
      return 0;
    }
    node->set_next_edges(torch::autograd::collect_next_edges(in));
    for (size_t i = 0; i < n_saved; ++i) {
      node->saved.emplace_back(*saved[i], false);
    }
    for (size_t i = 0; i < n_outputs; ++i) {
      torch::autograd::set_history(*outputs[i], node);
    }
    return 0;
  } catch (const std::exception &e) {
    copy_message(e.what(), message, capacity);
    return 1;
  }
}

// Tells `f` of every operation this thread starts until `mixers_unwatch`. Returns what that wants.
uint64_t mixers_watch(mixers_seen f, void *context) {
  seen = f;
  seen_context = context;
  return at::addThreadLocalCallback(
      at::RecordFunctionCallback(tell).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
}

void mixers_unwatch(uint64_t handle) {
  at::removeCallback(handle);
  seen = nullptr;
  seen_context = nullptr;
}

// Calls `body(context, from, to)` on pieces of `0..n`, at least `grain` long, on libtorch's threads.
void mixers_parallel_for(int64_t n, int64_t grain, void (*body)(void *, int64_t, int64_t), void *context) {
  at::parallel_for(0, n, grain, [&](int64_t from, int64_t to) { body(context, from, to); });
}
}
