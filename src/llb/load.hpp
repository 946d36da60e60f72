// The door from a Definition to a graph of validated operations. Inputs are resolved to indices,
// cycles cannot occur (an operation names its inputs by hash, and unknown hashes are refused), names
// are made. Bounded: kMaxOps operations, kMaxOpBytes each. Pure, any thread.
#pragma once

#include "base/result.hpp"
#include "llb/definition.hpp"
#include "llb/op.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace cooper::llb {

inline constexpr std::size_t kMaxOps = 200'000;
inline constexpr std::size_t kMaxOpBytes = 64U << 20U;

// Output `output` of vertex `vertex` (index into Graph::vertices).
struct Edge {
    std::size_t vertex = 0;
    std::int64_t output = 0;
    friend bool operator==(const Edge&, const Edge&) = default;
};

struct LoadedVertex {
    Digest digest;
    Op op;
    std::vector<Edge> inputs;  // same order as op.inputs
    OpMetadata metadata;
    std::string name;                    // llb.customname, else default_name
    std::vector<SourceRange> locations;  // where it was written, for errors
};

struct Graph {
    std::vector<LoadedVertex> vertices;  // inputs come before users
    std::optional<Edge> target;          // nullopt = scratch
    [[nodiscard]] const LoadedVertex* find(const Digest& digest) const;
};

// Only what the target needs is kept; operations nobody uses are validated all the same.
[[nodiscard]] Result<Graph> load(const Definition& definition);

// What every operation must satisfy on its own (indices against op.inputs included).
[[nodiscard]] Result<> validate(const Op& op);

// Names of inputs for merge and diff.
[[nodiscard]] std::string default_name(const Op& op, const std::vector<std::string>& input_names);

}  // namespace cooper::llb
