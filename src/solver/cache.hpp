// The cache as the solver sees it: keys connected by links, and records of results.
//
// A key has an opaque id. A vertex without inputs has the key root_key_id(op digest, output). A vertex
// with inputs has a key that is reached over links: from a key of each input, over (input, output, op
// digest, selector), to its id. One id may be reached from several keys of the same input (by its
// definition, by its content). These are BuildKit's rules, so that records
// can be exchanged with it.
#pragma once

#include "base/clock.hpp"
#include "base/digest.hpp"
#include "base/result.hpp"
#include "solver/vertex.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace cooper::solver {

using KeyId = std::string;     // at most 128 bytes
using ResultId = std::string;  // chosen by the ResultStore

// The kind of step from an input's key to the key of its dependent.
struct CacheLink {
    std::uint32_t input = 0;
    std::int32_t output = 0;  // of the dependent
    Digest digest;            // of the dependent's op
    Digest selector;          // empty for content keys

    friend auto operator<=>(const CacheLink&, const CacheLink&) = default;
    friend bool operator==(const CacheLink&, const CacheLink&) = default;
};

struct LinkFrom {
    KeyId from;
    CacheLink link;
};

struct LinkTo {
    KeyId from;
    CacheLink link;
    KeyId to;
};

struct CacheRecord {
    KeyId key;
    ResultId result;
    Timestamp created;
};

// What one finished vertex adds; all of it or nothing becomes visible.
struct CacheAddition {
    std::vector<LinkTo> links;
    std::vector<CacheRecord> records;
};

// Thread rules: any thread, at once. follow() and records() are called on the scheduler's thread and
// must answer in microseconds from memory or a local database; add() and drop() come from pool threads
// and may wait.
class CacheStore {
public:
    virtual ~CacheStore() = default;
    // For each question, in order, the ids it leads to (none: an empty list).
    virtual Result<std::vector<std::vector<KeyId>>> follow(std::span<const LinkFrom> questions) = 0;
    // All records of these keys, in any order.
    virtual Result<std::vector<CacheRecord>> records(std::span<const KeyId> keys) = 0;
    // Idempotent: what is there already stays; a record of the same key and result gets the new time.
    virtual Result<> add(const CacheAddition& addition) = 0;
    // This result can no longer be had; all its records go.
    virtual Result<> drop(const ResultId& result) = 0;
};

// Thread rules: any thread. exists() is called on the scheduler's thread and must be as fast as
// CacheStore::records; save() and load() come from pool threads.
class ResultStore {
public:
    virtual ~ResultStore() = default;
    // Makes the result outlive the process and gives it a name. `result` may be nullptr (scratch).
    virtual Result<ResultId> save(const SharedResult& result) = 0;
    // nullopt: no longer there.
    virtual Result<std::optional<SharedResult>> load(const ResultId& id) = 0;
    virtual bool exists(const ResultId& id) = 0;
};

// A key with where it comes from: what the cache exporter writes and "why did this rebuild?" compares.
struct CacheKey {
    struct Dep {
        Digest selector;
        std::shared_ptr<const CacheKey> key;
    };
    KeyId id;
    Digest digest;                         // of the op; for a content key the content digest
    std::int32_t output = 0;               // kContentOutput for content keys
    bool ephemeral = false;                // holds for this build only: never looked up nor saved
    bool local = false;                    // known to this store only: in no cache that travels
    Digest vertex;                         // empty for content keys
    std::vector<std::vector<Dep>> inputs;  // per input all keys it is known by
};
using SharedKey = std::shared_ptr<const CacheKey>;

// The output number under which content digests are keys of their own.
inline constexpr std::int32_t kContentOutput = -1;

// Shares a finished key; its last handle lets go of long chains without recursion.
[[nodiscard]] SharedKey share_key(CacheKey key);
// sha256 of "<digest>@<output>".
[[nodiscard]] KeyId root_key_id(const Digest& digest, std::int32_t output);
// One of the keys that an input is known by.
struct InputKey {
    Digest selector;
    KeyId key;
};
// The id of a key with inputs, where BuildKit draws a random one: two processes that do the same work
// agree, and so does who imports it. op: root_key_id of what the step does.
[[nodiscard]] KeyId derived_key_id(const KeyId& op, const std::vector<std::vector<InputKey>>& inputs);
// The key of a vertex without inputs. Ephemeral ones have an id "random:…" that is never stored.
[[nodiscard]] SharedKey make_root_key(const Digest& digest, std::int32_t output, const Digest& vertex, bool ephemeral);
// The key of a content digest.
[[nodiscard]] SharedKey make_content_key(const Digest& content);
// The key under which results are saved for all contents that are alike to this one.
[[nodiscard]] SharedKey make_alike_key(const Digest& content);
// A key with inputs that the store does not know yet; its id is made from its parts. Ephemeral when for
// some input only ephemeral keys are known.
[[nodiscard]] SharedKey make_derived_key(CacheKey parts);

}  // namespace cooper::solver
