// StepTravel: records of steps that come with the caches of a build (--cache-from), and that go with those it writes.
//
// Nothing is asked of a cache until a step that has no record here has missed; then once, for a bounded time. Whatever
// is wrong with it means that less is known. The records are compared, and do nothing else: they are not kept, and lead
// to no result. docs/cache.md, "Reasons that travel".
//
// Any thread.
#pragma once

#include "base/guarded.hpp"
#include "base/progress.hpp"
#include "cachestore/cache_store.hpp"
#include "store/store.hpp"
#include "why/travel.hpp"

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace cooper::engine {

class StepTravel {
public:
    // The store outlives it.
    explicit StepTravel(store::Store& store) : store_(store) {}

    // A cache that was imported.
    void add(std::shared_ptr<cachestore::CacheStore> cache);
    [[nodiscard]] bool has_sources() { return !sources_.lock()->empty(); }

    struct Found {
        std::shared_ptr<const why::TravellingStep> step;
        std::string cache;  // where it was
    };
    // Of this stage and with this instruction (which is portable); else of that stage, and with it elsewhere. Few.
    [[nodiscard]] std::vector<Found> find(const std::string& stage, const std::string& text, const Stop& stop);
    // Of what has been asked already.
    [[nodiscard]] std::optional<why::Ingredients> record_of(const std::string& state);
    [[nodiscard]] bool knows_stage(const std::string& stage);
    // A list of files by its name; as it was packed.
    [[nodiscard]] std::optional<std::string> list(const std::string& name, const Stop& stop);
    // Why the caches say nothing: "cache NAME has no records of steps".
    [[nodiscard]] std::string problem();

    // A record of this machine as others would have it. The state of a result that is not known elsewhere stays.
    [[nodiscard]] why::Ingredients portable(why::Ingredients step);
    // The result here that portable() has given this name; as it is when there is none.
    [[nodiscard]] std::string local_state(const std::string& state);

    struct Export {
        std::shared_ptr<cachestore::CacheStore> cache;
        std::map<std::string, std::string> states;  // of the results in the cache: here, and anywhere
        bool keep_others = false;                   // what is there stays
        // What the client has to give a name to; where names are the client's.
        std::optional<oci::Descriptor> written;
    };
    // Records of these results beside the cache.
    Result<> save(Export& wanted, VertexProgress& progress, const Stop& stop);

private:
    struct Source;
    struct Records;
    using SharedSource = std::shared_ptr<Source>;
    // Which there are, asked for their records.
    std::vector<SharedSource> asked(std::chrono::milliseconds patience, const Stop& stop);
    static Result<std::shared_ptr<const Records>> fetch(cachestore::CacheStore& cache, const Stop& stop);
    [[nodiscard]] std::vector<std::shared_ptr<const Records>> known();
    std::string portable_state(const std::string& state);
    struct Gathered;
    Result<Gathered> gather(const Export& wanted, const Stop& stop);
    Result<> add_lists(Gathered& gathered, const Stop& stop);
    // Those that cannot be put are left out.
    static Result<> put_lists(cachestore::CacheStore& cache, Gathered& gathered, const Stop& stop);

    store::Store& store_;
    Guarded<std::vector<SharedSource>> sources_;
    Guarded<std::map<std::string, std::string>> portable_;  // states here to states anywhere
    Guarded<std::map<std::string, std::string>> local_;     // and back
    Guarded<std::map<std::string, std::string>> lists_;
    Guarded<std::chrono::milliseconds> left_;  // of the time that steps wait, all together
};

inline constexpr std::string_view kStepsName = "steps";  // of the index beside a cache

}  // namespace cooper::engine
