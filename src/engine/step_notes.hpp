// StepNotes: what one build knows of its steps beyond their results: what their keys were made of, and why they ran.
// Records are kept in the store, so that a later build can be compared with this one. Nothing happens for a step that
// is found in the cache. docs/cache.md, "Why a step ran".
//
// Any thread. What goes wrong here is never the build's failure: then less is known.
#pragma once

#include "base/clock.hpp"
#include "base/guarded.hpp"
#include "engine/step_text.hpp"
#include "engine/step_travel.hpp"
#include "ops/environment.hpp"
#include "solver/op.hpp"
#include "store/store.hpp"
#include "why/cause.hpp"
#include "why/compare.hpp"
#include "why/ingredients.hpp"

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace cooper::engine {

// --expect-cached: which steps may not run.
struct Expectation {
    bool all = false;
    std::set<std::string> stages;  // lower case
    [[nodiscard]] bool is_set() const { return all || !stages.empty(); }
};
// "" = all, "builder,test" = of these stages.
[[nodiscard]] Expectation parse_expectation(const std::string& text);

class StepNotes {
public:
    // The store outlives it. build: its ref; project: what tells builds of one thing from others.
    StepNotes(store::Store& store, std::string build, std::string project);

    // Options of the frontend: --build-arg, and what a build is of where its client has not said it.
    void add_options(const std::map<std::string, std::string>& options);
    void expect(Expectation expectation) { *expected_.lock() = std::move(expectation); }
    [[nodiscard]] bool expects() { return expected_.lock()->is_set(); }
    // Every stage that is expected to be cached is one of these.
    [[nodiscard]] Result<> check_stages(const std::set<std::string>& known);

    // What a source turned out to be.
    void note_pin(const Digest& vertex, const Digest& pin) { (*pins_.lock())[vertex] = pin; }

    // One step that runs now.
    struct Step {
        const Plan& plan;
        std::size_t index;  // of its vertex
        std::span<const solver::SharedResult> inputs;
        std::map<std::size_t, Digest> contents;  // digests of what it reads, by input
        ops::Environment& environment;
        const llb::Platform& platform;
        const std::map<std::string, std::string>& secret_keys;  // that are in the key, by id
    };
    // Finds out why and tells it. An error: the step was expected to be cached.
    struct Begun {
        why::Ingredients ingredients;
        std::int64_t record = 0;  // that says that it has begun; 0 = there is none
    };
    Result<Begun> begin(const Step& step, solver::OpContext& context);
    // The step has given this.
    void end(const Step& step, Begun begun, const solver::SharedResult& result, solver::OpContext& context);

    // It has given nothing.
    void end_without_result(Begun begun, const Error& error, const Stop& stop);

    // What comes and goes with caches.
    [[nodiscard]] StepTravel& travel() { return travel_; }

    // How long the step ran that made a layer; nullopt when none of this build did.
    void note_time(store::LayerId layer, std::chrono::nanoseconds took) { (*times_.lock())[layer] = took; }
    [[nodiscard]] std::optional<std::chrono::nanoseconds> time_of(store::LayerId layer) {
        auto times = times_.lock();
        const auto found = times->find(layer);
        return found == times->end() ? std::nullopt : std::optional(found->second);
    }

private:
    Guarded<std::map<store::LayerId, std::chrono::nanoseconds>> times_;

    struct Ran {
        std::string name;
        why::Cause cause;
        bool was_unfinished = false;
    };
    struct Found {
        why::Cause cause;
        std::optional<Timestamp> compared_with{};
        std::string cache{};          // that the record came with
        bool was_unfinished = false;  // it gave nothing then, so what follows on it was not reached
    };
    struct Candidate {
        store::StepRecord record;
        why::Ingredients then;
        int likeness = 0;
    };
    // Whose records a step is compared with: those of this machine, or those that came with caches, which are compared
    // as StepTravel::portable() makes them.
    enum class Side : std::uint8_t { here, caches };

    const why::Redactor& redactor();
    // Which also knows what this build's arguments and variables hide.
    why::Redactor redactor_of(const Plan& plan, const std::map<std::string, std::string>& arguments);
    std::shared_ptr<StepText> text_of(const Plan& plan);
    why::Ingredients ingredients_of(const Step& step, StepText& text);
    Result<> add_files(const Step& step, const why::Ingredients& ingredients, solver::OpContext& context);
    Found explain(const Step& step, const why::Ingredients& now, StepText& text, solver::OpContext& context);
    // With the nearest of these; they are not empty, and the most alike come first.
    Found explain_by(const std::vector<Candidate>& candidates, const Step& step, const why::Ingredients& now,
                     StepText& text, const Stop& stop);
    // Without a record: of a step that an earlier build did not get to.
    std::optional<Found> explain_as_unreached(const Step& step);
    static store::StepRecord to_record(const why::Ingredients& ingredients);
    // With what came with caches; nullopt when nothing there is like it.
    std::optional<Found> explain_by_caches(const Step& step, const why::Ingredients& now, StepText& text,
                                           const Stop& stop);
    struct Pair {
        const why::Ingredients& now;
        const why::Ingredients& then;
        Side side;
    };
    std::optional<why::Cause> explain_input(const Step& step, const Pair& pair, std::size_t input, StepText& text,
                                            const Stop& stop);
    // A source that is known already under what it means now: only this comparison sees it.
    why::Cause explain_source(const Step& step, const Pair& pair, std::size_t input,
                              const std::optional<why::Ingredients>& from_then, StepText& text);
    // Two records of steps that ran in other builds.
    std::optional<why::Cause> compare_records(const Pair& pair, int depth, const Stop& stop);
    std::optional<why::Cause> compare_files(const why::InputPart& now, const why::InputPart& then, Side side,
                                            const Stop& stop);
    std::optional<why::Ingredients> record_of(const std::string& state, Side side);
    [[nodiscard]] bool is_expected(const why::Place& place);

    store::Store& store_;
    StepTravel travel_;
    const std::string build_;
    const Timestamp began_ = SystemClock().now();
    Guarded<std::string> project_;
    Guarded<std::map<std::string, std::string>> arguments_;
    Guarded<Expectation> expected_;
    Guarded<std::map<Digest, Digest>> pins_;
    Guarded<std::map<Digest, Ran>> ran_;
    Guarded<std::string> failed_;  // the first step that did
    Guarded<std::optional<why::Redactor>> redactor_;
};

}  // namespace cooper::engine
