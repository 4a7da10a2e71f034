// Convolutions by oneDNN as a custom call of XLA's CPU programs.
//
// A call is cut along its lanes and its batch into parts, one for each thread of XLA's own pool, and every part is a
// primitive of oneDNN that runs on one thread. So there is no second pool of threads, and programs that run beside each
// other (several devices, independent operations) share the cores as XLA's own operations do. Primitives are created
// once for a geometry and a number of threads, and hold no memory of their own; scratch memory is each thread's.
//
// Arrays are dense, the last axis the fastest, each with an axis of lanes before the others:
//   source [batch, height, width, groups * inputs], result [batch, out_height, out_width, groups * outputs]
//   weights [kernel_height, kernel_width, inputs, groups * outputs]; for the gradient by the source, as JAX transposes
//   them, [kernel_height, kernel_width, groups * inputs, outputs], in the order of the forward pass (not reversed)

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"
#include "xla/ffi/api/ffi.h"

extern "C" void omp_set_num_threads(int);
extern "C" int omp_get_max_threads();

namespace {

namespace ffi = xla::ffi;
using dnnl::memory;
using dnnl::primitive_attr;

enum Kind : int64_t { kForward = 0, kBySource = 1, kByWeights = 2 };
enum Fused : int64_t { kBias = 1, kResidual = 2, kRelu = 4 };

// With a slope of 0 oneDNN's ReLU of NaN is 0, and a network that has failed would not be noticed.
constexpr float kNegativeSlope = 1e-30f;

// The attribute `geometry` of a call, in this order (convolutions.py: Geometry).
struct Geometry {
  int64_t kind, lanes, groups, batch, inputs, outputs, height, width, out_height, out_width, kernel_height,
      kernel_width, stride_down, stride_across, dilation_down, dilation_across, top, left, bottom, right, operands,
      results, fused;
};
constexpr size_t kFields = sizeof(Geometry) / sizeof(int64_t);

Geometry Read(const std::string& text) {
  int64_t fields[kFields];
  std::istringstream numbers(text);
  size_t count = 0;
  while (count < kFields && numbers >> fields[count]) ++count;
  if (count < kFields || !(numbers >> std::ws).eof()) throw std::invalid_argument("a geometry of other fields");
  Geometry geometry;
  std::memcpy(&geometry, fields, sizeof(Geometry));
  return geometry;
}

// The runtime of oneDNN is OpenMP's, whose number of threads is a setting of the calling thread.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }

 private:
  int before_;
};

const dnnl::engine& Engine() {
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  return engine;
}

dnnl::stream& Stream() {
  static thread_local dnnl::stream stream(Engine());
  return stream;
}

struct Free {
  void operator()(char* bytes) const { std::free(bytes); }
};
using Bytes = std::unique_ptr<char, Free>;

Bytes Allocate(size_t bytes) {
  char* memory = static_cast<char*>(std::aligned_alloc(64, (bytes + 127) / 64 * 64));
  if (memory == nullptr) throw std::bad_alloc();
  return Bytes(memory);
}

// Scratch memory of the calling thread, which grows to the largest that it has needed.
void* Scratch(size_t bytes) {
  static thread_local Bytes memory;
  static thread_local size_t size = 0;
  if (bytes > size) memory = Allocate(size = bytes);
  return memory.get();
}

memory::data_type Type(int64_t code) { return code == 0 ? memory::data_type::f32 : memory::data_type::bf16; }
int64_t Width(int64_t code) { return code == 0 ? 4 : 2; }

// One primitive for a number of rows of the batch.
struct Part {
  dnnl::primitive primitive;
  memory::desc source, result, scratch;
  std::string implementation;
};

struct Plan {
  Geometry geometry;
  std::vector<int64_t> starts;  // of the parts of the batch, and its end
  std::map<int64_t, Part> parts;  // by rows
  memory::desc plain, packed, bias;
  dnnl::reorder repack;
  bool is_packed = false;
};

memory::desc PlainWeights(const Geometry& g) {
  const bool transposed = g.kind == kBySource;
  const int64_t rows = transposed ? g.groups * g.inputs * g.outputs : g.inputs * g.groups * g.outputs;
  const int64_t outer = g.kernel_width * rows;
  const int64_t input = transposed ? g.outputs : g.groups * g.outputs;
  const auto type = Type(g.kind == kByWeights ? g.results : g.operands);
  if (g.groups == 1)
    return memory::desc({g.outputs, g.inputs, g.kernel_height, g.kernel_width}, type, {1, input, outer, rows});
  const int64_t group = transposed ? g.inputs * g.outputs : g.outputs;
  return memory::desc({g.groups, g.outputs, g.inputs, g.kernel_height, g.kernel_width}, type,
                      {group, 1, input, outer, rows});
}

// `weights` is any format for the first part of a plan, and its choice for the others.
Part MakePart(const Geometry& g, int64_t rows, const memory::desc& weights, memory::desc* packed) {
  const auto operands = Type(g.operands), results = Type(g.results);
  const auto nhwc = memory::format_tag::nhwc;
  const bool by_source = g.kind == kBySource;
  memory::desc source({rows, g.groups * g.inputs, g.height, g.width}, by_source ? results : operands, nhwc);
  memory::desc result({rows, g.groups * g.outputs, g.out_height, g.out_width}, g.kind == kForward ? results : operands,
                      nhwc);
  const memory::dims strides{g.stride_down, g.stride_across}, dilation{g.dilation_down - 1, g.dilation_across - 1};
  const memory::dims before{g.top, g.left}, after{g.bottom, g.right};
  const auto direct = dnnl::algorithm::convolution_direct;
  primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  Part part{{}, source, result, {}, {}};
  auto finish = [&](const auto& description, const memory::desc& format) {
    part.scratch = description.scratchpad_desc();
    part.implementation = description.impl_info_str();
    *packed = format;
  };
  using Forward = dnnl::convolution_forward;
  if (g.kind == kForward) {
    dnnl::post_ops after_it;
    if (g.fused & kResidual) after_it.append_binary(dnnl::algorithm::binary_add, result);
    if (g.fused & kRelu) after_it.append_eltwise(dnnl::algorithm::eltwise_relu, kNegativeSlope, 0.f);
    attributes.set_post_ops(after_it);
    const memory::desc bias = g.fused & kBias ? memory::desc({g.groups * g.outputs}, operands, memory::format_tag::x)
                                              : memory::desc();
    const auto inference = dnnl::prop_kind::forward_inference;
    Forward::primitive_desc description =
        g.fused & kBias ? Forward::primitive_desc(Engine(), inference, direct, source, weights, bias, result, strides,
                                                  dilation, before, after, attributes)
                        : Forward::primitive_desc(Engine(), inference, direct, source, weights, result, strides,
                                                  dilation, before, after, attributes);
    part.primitive = Forward(description);
    finish(description, description.weights_desc());
    return part;
  }
  // A backward primitive refers to a forward one, whose formats and types need not be its own.
  const memory::desc any(weights.get_dims(), operands, memory::format_tag::any);
  Forward::primitive_desc hint(Engine(), dnnl::prop_kind::forward_training, direct, source, any, result, strides,
                               dilation, before, after);
  if (by_source) {
    using Backward = dnnl::convolution_backward_data;
    Backward::primitive_desc description(Engine(), direct, source, weights, result, strides, dilation, before, after,
                                         hint, attributes);
    part.primitive = Backward(description);
    finish(description, description.weights_desc());
  } else {
    using Backward = dnnl::convolution_backward_weights;
    Backward::primitive_desc description(Engine(), direct, source, weights, result, strides, dilation, before, after,
                                         hint, attributes);
    part.primitive = Backward(description);
    finish(description, description.diff_weights_desc());
  }
  return part;
}

std::unique_ptr<Plan> MakePlan(const Geometry& g, int64_t threads) {
  OneThread alone;
  auto plan = std::make_unique<Plan>();
  plan->geometry = g;
  const int64_t wanted = (threads + g.lanes - 1) / g.lanes;
  const int64_t parts = std::max<int64_t>(1, std::min(g.batch, wanted));
  for (int64_t i = 0; i <= parts; ++i) plan->starts.push_back(g.batch * i / parts);
  plan->plain = PlainWeights(g);
  // Gradients by the weights are summed over the parts in float32.
  const auto type = g.kind == kByWeights ? memory::data_type::f32 : Type(g.operands);
  memory::desc weights(plan->plain.get_dims(), type, memory::format_tag::any);
  for (int64_t i = 0; i < parts; ++i) {
    const int64_t rows = plan->starts[i + 1] - plan->starts[i];
    if (plan->parts.count(rows)) continue;
    plan->parts.emplace(rows, MakePart(g, rows, weights, &plan->packed));
    weights = plan->packed;
  }
  plan->is_packed = g.kind == kByWeights ? parts > 1 || plan->packed != plan->plain : plan->packed != plan->plain;
  if (plan->is_packed) {
    const bool unpacks = g.kind == kByWeights;
    const memory::desc& from = unpacks ? plan->packed : plan->plain;
    const memory::desc& to = unpacks ? plan->plain : plan->packed;
    plan->repack = dnnl::reorder(dnnl::reorder::primitive_desc(Engine(), from, Engine(), to));
  }
  return plan;
}

const Plan& FindPlan(const std::string& geometry, int64_t threads) {
  static std::mutex mutex;
  static std::map<std::pair<int64_t, std::string>, std::unique_ptr<Plan>> plans;
  std::lock_guard<std::mutex> lock(mutex);
  auto& plan = plans[{threads, geometry}];
  if (plan == nullptr) plan = MakePlan(Read(geometry), threads);
  return *plan;
}

// Tasks that threads take one by one. Those of the pool may come late, when nothing is left for them.
struct Tasks {
  int64_t count;
  std::function<void(int64_t)> run;
  std::atomic<int64_t> next{0}, finished{0};
  std::mutex mutex;
  std::condition_variable all_finished;
  std::exception_ptr failure;

  void Work() {
    for (int64_t task; (task = next.fetch_add(1)) < count;) {
      try {
        OneThread alone;
        run(task);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex);
        failure = std::current_exception();
      }
      if (finished.fetch_add(1) + 1 == count) {
        std::lock_guard<std::mutex> lock(mutex);
        all_finished.notify_all();
      }
    }
  }
};

void RunAll(ffi::ThreadPool& pool, int64_t threads, int64_t count, std::function<void(int64_t)> run) {
  auto tasks = std::make_shared<Tasks>();
  tasks->count = count;
  tasks->run = std::move(run);
  for (int64_t helper = 1; helper < std::min(count, threads); ++helper) pool.Schedule([tasks] { tasks->Work(); });
  tasks->Work();
  std::unique_lock<std::mutex> lock(tasks->mutex);
  tasks->all_finished.wait(lock, [&] { return tasks->finished.load() == count; });
  if (tasks->failure) std::rethrow_exception(tasks->failure);
}

memory Memory(const memory::desc& description, void* data) { return memory(description, Engine(), data); }

char* At(const ffi::AnyBuffer& buffer, int64_t elements, int64_t width) {
  return static_cast<char*>(buffer.untyped_data()) + elements * width;
}

// The sum over the parts of a gradient by the weights, into the first of them.
void AddParts(float* sums, size_t size, int64_t parts) {
  for (int64_t part = 1; part < parts; ++part) {
    const float* values = sums + part * size;
    for (size_t i = 0; i < size; ++i) sums[i] += values[i];
  }
}

void Run(const Plan& plan, int64_t threads, ffi::ThreadPool& pool, ffi::RemainingArgs& arguments,
         const ffi::AnyBuffer& output) {
  const Geometry& g = plan.geometry;
  const int64_t parts = plan.starts.size() - 1;
  const ffi::AnyBuffer first = arguments.get<ffi::AnyBuffer>(0).value();
  const ffi::AnyBuffer second = arguments.get<ffi::AnyBuffer>(1).value();
  const ffi::AnyBuffer& source = g.kind == kBySource ? output : first;
  const ffi::AnyBuffer& weights = g.kind == kByWeights ? output : second;
  const ffi::AnyBuffer& result = g.kind == kForward ? output : g.kind == kBySource ? first : second;
  const int64_t source_row = g.height * g.width * g.groups * g.inputs;
  const int64_t result_row = g.out_height * g.out_width * g.groups * g.outputs;
  const int64_t kernel = g.kernel_height * g.kernel_width * g.inputs * g.groups * g.outputs;
  const int64_t source_width = Width(g.kind == kBySource ? g.results : g.operands);
  const int64_t result_width = Width(g.kind == kForward ? g.results : g.operands);
  const int64_t kernel_width = Width(g.kind == kByWeights ? g.results : g.operands);
  const size_t packed = (plan.packed.get_size() + 63) / 64 * 64;
  const int64_t copies = g.kind == kByWeights ? parts : 1;
  Bytes store = plan.is_packed ? Allocate(packed * copies * g.lanes) : nullptr;

  auto plain_of = [&](int64_t lane) { return At(weights, lane * kernel, kernel_width); };
  auto weights_of = [&](int64_t lane, int64_t part) {
    return plan.is_packed ? store.get() + packed * (lane * copies + part) : plain_of(lane);
  };
  if (plan.is_packed && g.kind != kByWeights) {
    RunAll(pool, threads, g.lanes, [&](int64_t lane) {
      memory plain = Memory(plan.plain, plain_of(lane)), ready = Memory(plan.packed, weights_of(lane, 0));
      plan.repack.execute(Stream(), plain, ready);
    });
  }
  RunAll(pool, threads, g.lanes * parts, [&](int64_t task) {
    const int64_t lane = task / parts, part = task % parts, start = plan.starts[part];
    const Part& one = plan.parts.at(plan.starts[part + 1] - start);
    const int64_t row = lane * g.batch + start;
    std::unordered_map<int, memory> uses;
    memory x = Memory(one.source, At(source, row * source_row, source_width));
    memory y = Memory(one.result, At(result, row * result_row, result_width));
    memory w = Memory(plan.packed, weights_of(lane, g.kind == kByWeights ? part : 0));
    uses[DNNL_ARG_SCRATCHPAD] = Memory(one.scratch, Scratch(one.scratch.get_size()));
    uses[g.kind == kBySource ? DNNL_ARG_DIFF_SRC : DNNL_ARG_SRC] = x;
    uses[g.kind == kByWeights ? DNNL_ARG_DIFF_WEIGHTS : DNNL_ARG_WEIGHTS] = w;
    uses[g.kind == kForward ? DNNL_ARG_DST : DNNL_ARG_DIFF_DST] = y;
    size_t next = 2;
    if (g.fused & kBias) {
      const ffi::AnyBuffer bias = arguments.get<ffi::AnyBuffer>(next++).value();
      const memory::desc vector({g.groups * g.outputs}, Type(g.operands), memory::format_tag::x);
      uses[DNNL_ARG_BIAS] = Memory(vector, At(bias, lane * g.groups * g.outputs, Width(g.operands)));
    }
    if (g.fused & kResidual) {
      const ffi::AnyBuffer residual = arguments.get<ffi::AnyBuffer>(next++).value();
      uses[DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1] =
          Memory(one.result, At(residual, row * result_row, result_width));
    }
    one.primitive.execute(Stream(), uses);
  });
  if (plan.is_packed && g.kind == kByWeights) {
    RunAll(pool, threads, g.lanes, [&](int64_t lane) {
      AddParts(reinterpret_cast<float*>(weights_of(lane, 0)), packed / sizeof(float), parts);
      memory sum = Memory(plan.packed, weights_of(lane, 0)), plain = Memory(plan.plain, plain_of(lane));
      plan.repack.execute(Stream(), sum, plain);
    });
  }
}

ffi::Error Convolve(ffi::ThreadPool pool, std::string_view geometry, ffi::RemainingArgs arguments,
                    ffi::Result<ffi::AnyBuffer> output) {
  try {
    const int64_t threads = std::max<int64_t>(1, pool.num_threads());
    Run(FindPlan(std::string(geometry), threads), threads, pool, arguments, *output);
  } catch (const std::exception& error) {
    return ffi::Error::Internal(std::string("oneDNN: ") + error.what());
  }
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jaxdistill_convolve, Convolve,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Attr<std::string_view>("geometry")
                                  .RemainingArgs()
                                  .Ret<ffi::AnyBuffer>());

// Writes the names of the implementations for a geometry and a number of threads, and returns 0; 1 if there is none.
extern "C" int jaxdistill_find_implementation(const char* geometry, int64_t threads, char* text, int64_t size) {
  try {
    std::string names;
    for (const auto& entry : FindPlan(geometry, threads).parts) names += entry.second.implementation + " ";
    std::strncpy(text, names.c_str(), size - 1);
    text[size - 1] = 0;
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}
