// step: what an edge does next, as a pure function.
//
// An edge is one output of one vertex. It is asked for its keys or its result, asks its op and its
// input edges in turn, and answers. All waiting is in the state; step() never waits, never does I/O
// and never looks at anything but its arguments, so that it can be tested and simulated.
//
// The way of an edge: follow the links from its inputs' keys (fast phase, definitions only); where an
// input leads nowhere, ask that input for keys by content, then for its result to compute a content
// digest (slow phase), and at last for a content that would do as well; load the newest record found; with none,
// execute.
#pragma once

#include "base/result.hpp"
#include "solver/cache.hpp"
#include "solver/op.hpp"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

namespace cooper::solver {

// What is asked of an edge, and what it has answered. Each includes the ones before.
enum class Level : std::uint8_t {
    nothing,
    fast_keys,  // the keys that definitions alone give
    all_keys,   // and those that contents give, or a record: a cached result exists or never will
    result,
};

enum class Phase : std::uint8_t {
    asking,     // collecting keys; the only phase that asks others
    loading,    // Load was given, its answer is awaited
    executing,  // Execute was given, its answer is awaited
    done,       // result and key are set
    failed,     // error is set
};

struct InputState {
    enum class Content : std::uint8_t { unknown, asked, known };

    // By the cache map.
    Digest selector;
    bool content_based = false;
    bool has_alike = false;
    // What we asked and what was answered.
    Level asked = Level::nothing;
    Level offered = Level::nothing;
    std::vector<SharedKey> keys;  // may be followed; only ever grows
    SharedResult result;          // when offered is result
    SharedKey result_key;         // the key the result was found or saved under
    Content content = Content::unknown;
    SharedKey content_key;
    Content alike = Content::unknown;
    std::optional<Digest> alike_content;
    // Lookup: keys[0, followed) and the content keys, if so marked, have led to these ids.
    std::size_t followed = 0;
    bool content_followed = false;
    bool alike_followed = false;
    std::vector<KeyId> candidates;  // sorted
};

struct EdgeState {
    // Fixed.
    Digest vertex;
    std::int32_t output = 0;
    bool ignore_cache = false;

    Phase phase = Phase::asking;
    Level wanted = Level::nothing;
    Level offered = Level::nothing;
    std::size_t maps_asked = 0;
    std::size_t maps_known = 0;
    bool more_maps = false;
    CacheMap map;  // the newest one known
    std::vector<InputState> inputs;
    bool awaiting_lookup = false;
    std::vector<SharedKey> keys;       // found in the cache, or of a root
    std::vector<CacheRecord> records;  // not tried yet
    bool hit = false;                  // a record was found at some time
    SharedResult result;
    SharedKey result_key;
    std::optional<Error> error;
    std::optional<Error> input_error;  // came when the inputs were not needed; they may be again
};

[[nodiscard]] EdgeState make_edge_state(const Vertex& vertex, std::uint32_t output, bool ignore_cache);

// ---- what can happen to an edge
struct Wanted {
    Level level = Level::nothing;
};
struct MapKnown {
    CacheMapPart part;
};
struct InputOffered {
    std::size_t input = 0;
    Level level = Level::nothing;
    std::vector<SharedKey> keys;  // all, the known ones first
    SharedResult result;
    SharedKey result_key;
};
struct ContentKnown {
    std::size_t input = 0;
    SharedKey key;
};
struct AlikeKnown {
    std::size_t input = 0;
    Digest content;
};
struct Followed {
    std::vector<std::size_t> inputs;      // of the Follow action
    std::vector<std::vector<KeyId>> ids;  // one list per question of it
};
struct RecordsFound {
    std::vector<CacheRecord> records;
};
struct Loaded {
    std::optional<SharedResult> result;  // nullopt: gone
    CacheRecord record;
};
struct Executed {
    SharedResult result;
    SharedKey key;
};
struct InputFailed {
    Error error;
};
struct Failed {
    Error error;  // of its own work
};
using Event = std::variant<Wanted, MapKnown, InputOffered, ContentKnown, AlikeKnown, Followed, RecordsFound, Loaded,
                           Executed, InputFailed, Failed>;

// ---- what an edge asks for
struct AskMap {
    std::size_t index = 0;
};
struct AskInput {
    std::size_t input = 0;
    Level level = Level::nothing;
};
struct AskContent {
    std::size_t input = 0;
};
struct AskAlike {
    std::size_t input = 0;
};
struct Follow {
    std::vector<LinkFrom> questions;
    std::vector<std::size_t> inputs;  // which input each question is about
};
struct FindRecords {
    std::vector<KeyId> keys;
};
struct Load {
    CacheRecord record;
};
struct Execute {};
// Tell the dependents: offered, keys, result or error have changed.
struct Announce {};
using Action = std::variant<AskMap, AskInput, AskContent, AskAlike, Follow, FindRecords, Load, Execute, Announce>;
using Actions = std::vector<Action>;

// Appends to `actions`. Follow and FindRecords must be answered before any other event is given.
void step(EdgeState& state, Event event, Actions& actions);

// The key under which the result of executing this edge's vertex is saved for `output`.
// Precondition: the map and all inputs' results are known.
[[nodiscard]] SharedKey execution_key(const EdgeState& state, std::int32_t output);

}  // namespace cooper::solver
