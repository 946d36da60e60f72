// Vertex: one immutable node of the build graph, and Output, a reference to one of its results.
//
// A vertex is identified by its digest: two vertices with equal digests are the same work, whichever
// build they come from. What it does is behind Op; the solver knows no containers.
// Thread rules: vertices are immutable and shared between threads; Op says its own rules.
#pragma once

#include "base/digest.hpp"
#include "base/progress.hpp"

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cooper::solver {

class Op;
class Vertex;

// The result of a vertex, opaque to the solver: `ops` knows what it is. Immutable once shared.
class Outcome {
public:
    virtual ~Outcome() = default;
};
// nullptr is scratch: the empty result.
using SharedResult = std::shared_ptr<const Outcome>;

struct Output {
    std::shared_ptr<const Vertex> vertex;
    std::uint32_t index = 0;

    friend bool operator==(const Output&, const Output&) = default;
};

struct VertexOptions {
    bool ignore_cache = false;  // never read from the cache; the result is saved all the same
    bool hidden = false;        // works, but emits no vertex events
    // Builds share equal vertices only when this is equal, too: what a client sees and others do not.
    std::string scope;
    std::optional<ProgressGroup> group;
    std::map<std::string, std::string> description;
};

class Vertex {
public:
    struct Parts {
        Digest digest;
        std::string name;
        std::vector<Output> inputs;
        VertexOptions options;
        std::shared_ptr<Op> op;
        std::uint32_t outputs = 1;  // how many results execute() gives
    };
    // Precondition (CHECKed): op and all inputs are set, inputs' indices exist.
    static std::shared_ptr<const Vertex> create(Parts parts);

    explicit Vertex(Parts parts) : parts_(std::move(parts)) {}  // use create
    Vertex(const Vertex&) = delete;
    Vertex& operator=(const Vertex&) = delete;
    // Lets go of long input chains without recursion.
    ~Vertex();

    [[nodiscard]] const Digest& digest() const { return parts_.digest; }
    [[nodiscard]] const std::string& name() const { return parts_.name; }
    [[nodiscard]] const std::vector<Output>& inputs() const { return parts_.inputs; }
    [[nodiscard]] const VertexOptions& options() const { return parts_.options; }
    [[nodiscard]] Op& op() const { return *parts_.op; }
    [[nodiscard]] const std::shared_ptr<Op>& shared_op() const { return parts_.op; }
    [[nodiscard]] std::uint32_t outputs() const { return parts_.outputs; }

private:
    Parts parts_;
};

}  // namespace cooper::solver
