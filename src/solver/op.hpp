// Op: what a vertex does, in two questions: how are you cached, and what do you produce.
//
// Errors: any Error fails the vertex and those who need it; it is never cached. Code::cancelled means
// that the stop in the context fired.
// Thread rules: the solver asks cache_map part by part, then content_digest and alike_digest (several
// inputs at once), then execute (at most once per solve). Calls come from pool threads, never from two at once but for
// content_digest.
#pragma once

#include "base/digest.hpp"
#include "base/progress.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "solver/vertex.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace cooper::solver {

// What the work waits for, which decides how many of its kind run at once. `nested` is for work that
// itself waits for another build of the same solver: it has threads of its own.
enum class PoolKind : std::uint8_t { cpu, io, exec, nested };

// How one vertex is cached.
struct CacheMap {
    struct Input {
        Digest selector;             // narrows what of the input matters; may be empty
        bool content_based = false;  // content_digest() may be asked for this input
        bool has_alike = false;      // and alike_digest(), when that leads nowhere
    };
    Digest digest;  // of the op alone
    // Keys made from this digest hold for this build only ("random:" and "session:" digests of
    // BuildKit): they are neither looked up nor saved.
    bool ephemeral = false;
    std::vector<Input> inputs;  // one per input of the vertex
};

// `more` says that cache_map(index + 1) has another, equally true map (an image: by manifest, by
// config). It is asked only when this one finds nothing, and only of vertices without inputs.
struct CacheMapPart {
    CacheMap map;
    bool more = false;
};

struct OpContext {
    Stop stop;
    VertexProgress& progress;
};

class Op {
public:
    virtual ~Op() = default;

    virtual Result<CacheMapPart> cache_map(std::size_t index, OpContext& context) = 0;
    // True: cache_map needs microseconds and never blocks, so it is called on the scheduler's thread.
    [[nodiscard]] virtual bool cache_map_is_cheap() const { return false; }
    // The digest of what this op reads of an input's result ("slow key"). Asked only for inputs that
    // the cache map calls content_based, and only when definitions alone found nothing.
    virtual Result<Digest> content_digest(std::size_t input, const SharedResult& result, OpContext& context);
    // The content digest of another input that this op could not tell from this one: with it the op would give the very
    // same result; equal for all that it cannot tell apart, and its own for one of them. Asked after content_digest(),
    // and only for inputs of which the cache map says that they have one.
    virtual Result<Digest> alike_digest(std::size_t input, const SharedResult& result, OpContext& context);
    // One result per output of the vertex.
    virtual Result<std::vector<SharedResult>> execute(std::span<const SharedResult> inputs, OpContext& context) = 0;
    [[nodiscard]] virtual PoolKind pool() const = 0;
    // Another job brought an equal vertex, whose op may work with another client. From now on this op
    // may let `other` do what it cannot do itself. Called on the scheduler's thread, also while other
    // calls are running; must not block.
    virtual void share(const std::shared_ptr<Op>& /*other*/) {}
};

}  // namespace cooper::solver
