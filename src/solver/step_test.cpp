// step() by itself: what an edge asks, and above all what it does not ask.

#include "solver/step.hpp"

#include "solver/fake_op.hpp"

#include <gtest/gtest.h>

namespace cooper::solver {
namespace {

EdgeState edge_with(std::size_t inputs) {
    EdgeState state;
    state.vertex = number_digest(1);
    state.inputs.resize(inputs);
    return state;
}

MapKnown map_of(std::uint64_t key, const std::vector<bool>& content) {
    CacheMap map{.digest = number_digest(key)};
    for (const bool one : content) map.inputs.push_back({.content_based = one});
    return {{.map = std::move(map)}};
}

SharedKey key_of(std::uint64_t number) { return make_root_key(number_digest(number), 0, Digest(), false); }

Actions after(EdgeState& state, Event event) {
    Actions actions;
    step(state, std::move(event), actions);
    return actions;
}

// Short words for actions: "map0 ask0:result load" and so on.
std::string words(const Actions& actions) {
    static const char* const kLevels[] = {"nothing", "fast", "all", "result"};
    std::string text;
    for (const Action& action : actions) {
        if (std::holds_alternative<Announce>(action) && text.ends_with("announce")) continue;  // told once
        if (!text.empty()) text += ' ';
        if (const auto* ask = std::get_if<AskMap>(&action)) {
            text += "map" + std::to_string(ask->index);
        } else if (const auto* input = std::get_if<AskInput>(&action)) {
            text += "ask" + std::to_string(input->input) + ':' + kLevels[static_cast<int>(input->level)];
        } else if (const auto* content = std::get_if<AskContent>(&action)) {
            text += "content" + std::to_string(content->input);
        } else if (const auto* alike = std::get_if<AskAlike>(&action)) {
            text += "alike" + std::to_string(alike->input);
        } else if (const auto* follow = std::get_if<Follow>(&action)) {
            text += "follow" + std::to_string(follow->questions.size());
        } else if (std::holds_alternative<FindRecords>(action)) {
            text += "records";
        } else if (const auto* load = std::get_if<Load>(&action)) {
            text += "load:" + load->record.result;
        } else if (std::holds_alternative<Execute>(action)) {
            text += "execute";
        } else {
            text += "announce";
        }
    }
    return text;
}

Timestamp second(int number) { return Timestamp(std::chrono::seconds(number)); }

TEST(StepTest, UnwantedEdgeAsksNothing) {
    EdgeState state = edge_with(1);
    EXPECT_EQ(words(after(state, map_of(1, {true}))), "");
}

TEST(StepTest, RootWithRecordIsLoadedOnlyWhenItsResultIsWanted) {
    EdgeState state = edge_with(0);
    EXPECT_EQ(words(after(state, Wanted{Level::fast_keys})), "map0");
    EXPECT_EQ(words(after(state, map_of(5, {}))), "records");
    const KeyId id = state.keys.front()->id;
    EXPECT_EQ(id, root_key_id(number_digest(5), 0));
    EXPECT_EQ(words(after(state, RecordsFound{{{id, "old", second(1)}, {id, "new", second(2)}}})), "announce");
    EXPECT_EQ(state.offered, Level::all_keys);
    EXPECT_EQ(words(after(state, Wanted{Level::result})), "load:new");
    EXPECT_EQ(words(after(state, Loaded{std::nullopt, {id, "new", second(2)}})), "load:old");
    EXPECT_EQ(words(after(state, Loaded{std::nullopt, {id, "old", second(1)}})), "execute");
    EXPECT_EQ(words(after(state, Executed{number_result(1), state.keys.front()})), "announce");
    EXPECT_EQ(state.phase, Phase::done);
}

TEST(StepTest, RecordsOfForeignKeysAreIgnored) {
    EdgeState state = edge_with(0);
    after(state, Wanted{Level::result});
    after(state, map_of(5, {}));
    EXPECT_EQ(words(after(state, RecordsFound{{{"sha256:other", "x", second(1)}}})), "announce execute");
}

TEST(StepTest, EphemeralRootIsNeverLookedUp) {
    EdgeState state = edge_with(0);
    after(state, Wanted{Level::fast_keys});
    MapKnown map = map_of(5, {});
    map.part.map.ephemeral = true;
    EXPECT_EQ(words(after(state, std::move(map))), "announce");
    EXPECT_TRUE(state.keys.front()->ephemeral);
    EXPECT_TRUE(state.keys.front()->id.starts_with("random:"));
}

TEST(StepTest, MapAndInputsAreAskedAtOnce) {
    EdgeState state = edge_with(2);
    EXPECT_EQ(words(after(state, Wanted{Level::result})), "map0 ask0:fast ask1:fast");
}

TEST(StepTest, FastHitAsksNeitherContentNorResults) {
    EdgeState state = edge_with(2);
    after(state, Wanted{Level::result});
    after(state, map_of(9, {true, true}));
    EXPECT_EQ(words(after(state, InputOffered{0, Level::fast_keys, {key_of(1)}, nullptr, nullptr})), "follow1");
    EXPECT_EQ(words(after(state, Followed{{0}, {{"k", "other"}}})), "");
    EXPECT_EQ(words(after(state, InputOffered{1, Level::fast_keys, {key_of(2)}, nullptr, nullptr})), "follow1");
    EXPECT_EQ(words(after(state, Followed{{1}, {{"k"}}})), "records");
    EXPECT_EQ(words(after(state, RecordsFound{{{"k", "r", second(1)}}})), "announce load:r");
}

TEST(StepTest, OnlyTheInputThatLeadsNowhereIsRaised) {
    EdgeState state = edge_with(2);
    after(state, Wanted{Level::result});
    after(state, map_of(9, {true, true}));
    after(state, InputOffered{0, Level::fast_keys, {key_of(1)}, nullptr, nullptr});
    after(state, Followed{{0}, {{"k"}}});
    after(state, InputOffered{1, Level::fast_keys, {key_of(2)}, nullptr, nullptr});
    EXPECT_EQ(words(after(state, Followed{{1}, {{}}})), "announce ask1:all");
    EXPECT_EQ(words(after(state, InputOffered{1, Level::all_keys, {key_of(2)}, nullptr, nullptr})), "ask1:result");
    EXPECT_EQ(words(after(state, InputOffered{1, Level::result, {key_of(2)}, number_result(3), key_of(2)})),
              "content1");
    EXPECT_EQ(words(after(state, ContentKnown{1, make_content_key(number_digest(3))})), "follow1");
    EXPECT_EQ(words(after(state, Followed{{1}, {{"k"}}})), "announce records");
    EXPECT_EQ(words(after(state, RecordsFound{{{"k", "r", second(1)}}})), "announce load:r");
    EXPECT_EQ(state.inputs[0].asked, Level::fast_keys);
}

TEST(StepTest, AlikeContentIsAskedOnlyWhenItsOwnLeadsNowhere) {
    for (const bool known : {true, false}) {
        EdgeState state = edge_with(1);
        after(state, Wanted{Level::result});
        CacheMap map{.digest = number_digest(9), .inputs = {{.content_based = true, .has_alike = true}}};
        after(state, MapKnown{{.map = map}});
        after(state, InputOffered{0, Level::result, {key_of(1)}, number_result(3), key_of(1)});
        EXPECT_EQ(words(after(state, Followed{{0}, {{}}})), "announce content0");
        EXPECT_EQ(words(after(state, ContentKnown{0, make_content_key(number_digest(3))})), "follow1");
        if (known) {
            EXPECT_EQ(words(after(state, Followed{{0}, {{"k"}}})), "announce records");
            EXPECT_EQ(words(after(state, RecordsFound{{{"k", "r", second(1)}}})), "announce load:r");
            continue;
        }
        EXPECT_EQ(words(after(state, Followed{{0}, {{}}})), "alike0");
        // Both as a content that somebody had, and as what others here were alike to.
        EXPECT_EQ(words(after(state, AlikeKnown{0, number_digest(4)})), "follow2");
        EXPECT_EQ(words(after(state, Followed{{0, 0}, {{}, {"k"}}})), "announce records");
        EXPECT_EQ(words(after(state, RecordsFound{{{"k", "r", second(1)}}})), "announce load:r");
    }
}

TEST(StepTest, AlikeContentIsKnownBeforeExecutingAndStaysHere) {
    EdgeState state = edge_with(1);
    state.ignore_cache = true;
    after(state, Wanted{Level::result});
    CacheMap map{.digest = number_digest(9), .inputs = {{.content_based = true, .has_alike = true}}};
    after(state, MapKnown{{.map = map}});
    after(state, InputOffered{0, Level::result, {}, number_result(3), key_of(2)});
    EXPECT_EQ(words(after(state, ContentKnown{0, make_content_key(number_digest(3))})), "alike0");
    EdgeState other = state;
    EXPECT_EQ(words(after(state, AlikeKnown{0, number_digest(4)})), "execute");
    EXPECT_EQ(words(after(other, AlikeKnown{0, number_digest(3)})), "execute");
    const SharedKey key = execution_key(state, 0);
    ASSERT_EQ(key->inputs[0].size(), 3U);
    EXPECT_TRUE(key->inputs[0][2].key->local);
    // It is no part of the name by which everybody knows the step.
    EXPECT_EQ(key->id, execution_key(other, 0)->id);
}

TEST(StepTest, ImpossibleInputMeansAMissWithoutWaitingForTheOthers) {
    EdgeState state = edge_with(2);
    after(state, Wanted{Level::result});
    after(state, map_of(9, {false, false}));
    EXPECT_EQ(words(after(state, InputOffered{0, Level::all_keys, {}, nullptr, nullptr})),
              "announce ask0:result ask1:result");
}

TEST(StepTest, ContentIsComputedBeforeExecutingSoThatItCanBeFoundAgain) {
    EdgeState state = edge_with(1);
    state.ignore_cache = true;
    EXPECT_EQ(words(after(state, Wanted{Level::result})), "map0 ask0:result");
    after(state, map_of(9, {true}));
    EXPECT_EQ(words(after(state, InputOffered{0, Level::result, {}, number_result(3), key_of(2)})), "content0");
    EXPECT_EQ(words(after(state, ContentKnown{0, make_content_key(number_digest(3))})), "execute");
    const SharedKey key = execution_key(state, 0);
    EXPECT_EQ(key->inputs[0].size(), 2U);
    EXPECT_FALSE(key->ephemeral);
}

TEST(StepTest, IgnoringEdgeOffersNoKeysAndNeedsNoMapForThat) {
    EdgeState state = edge_with(1);
    state.ignore_cache = true;
    EXPECT_EQ(words(after(state, Wanted{Level::fast_keys})), "announce");
    EXPECT_EQ(state.offered, Level::all_keys);
    EXPECT_TRUE(state.keys.empty());
}

TEST(StepTest, KeyWithoutRecordSatisfiesWhoWantsKeys) {
    EdgeState state = edge_with(1);
    after(state, Wanted{Level::all_keys});
    after(state, map_of(9, {true}));
    after(state, InputOffered{0, Level::fast_keys, {key_of(1)}, nullptr, nullptr});
    after(state, Followed{{0}, {{"k"}}});
    EXPECT_EQ(words(after(state, RecordsFound{})), "announce");
    EXPECT_EQ(state.offered, Level::all_keys);
    EXPECT_EQ(words(after(state, Wanted{Level::result})), "ask0:all");
}

TEST(StepTest, InputThatFailsLaterMattersOnlyWhenTheLoadFails) {
    EdgeState state = edge_with(1);
    after(state, Wanted{Level::result});
    after(state, map_of(9, {false}));
    after(state, InputOffered{0, Level::fast_keys, {key_of(1)}, nullptr, nullptr});
    after(state, Followed{{0}, {{"k"}}});
    after(state, RecordsFound{{{"k", "r", second(1)}}});
    EXPECT_EQ(words(after(state, InputFailed{bad_input("broken")})), "");
    EXPECT_EQ(state.phase, Phase::loading);
    EXPECT_EQ(words(after(state, Loaded{std::nullopt, {"k", "r", second(1)}})), "announce");
    EXPECT_EQ(state.phase, Phase::failed);
}

TEST(StepTest, CacheMapOfTheWrongShapeIsAnError) {
    EdgeState state = edge_with(2);
    after(state, Wanted{Level::result});
    after(state, map_of(9, {false}));
    EXPECT_EQ(state.phase, Phase::failed);
    EXPECT_EQ(state.error->blame(), Blame::cooper);
}

TEST(CacheKeyTest, RootIdIsTheHashOfDigestAndOutput) {
    // printf 'sha256:%064d@0' 0 | sha256sum
    EXPECT_EQ(root_key_id(number_digest(0), 0),
              "sha256:426830622cbd8917dd45a96e42ffd4d33dc86f82ce573c1e414bbe4d9905ea2c");
    EXPECT_NE(root_key_id(number_digest(0), 0), root_key_id(number_digest(0), kContentOutput));
}

TEST(CacheKeyTest, DerivedIdDependsOnEveryPartButNotOnTheOrderOfAlternatives) {
    const auto derived = [](std::uint64_t op, std::int32_t output, std::vector<CacheKey::Dep> deps) {
        return make_derived_key(CacheKey{.digest = number_digest(op), .output = output, .inputs = {std::move(deps)}});
    };
    const CacheKey::Dep a{Digest(), key_of(1)};
    const CacheKey::Dep b{number_digest(7), key_of(2)};
    const KeyId id = derived(1, 0, {a, b})->id;
    EXPECT_EQ(id, derived(1, 0, {b, a})->id);
    EXPECT_NE(id, derived(2, 0, {a, b})->id);
    EXPECT_NE(id, derived(1, 1, {a, b})->id);
    EXPECT_NE(id, derived(1, 0, {a})->id);
    const CacheKey::Dep passing{Digest(), make_root_key(number_digest(3), 0, Digest(), true)};
    EXPECT_EQ(id, derived(1, 0, {a, passing, b})->id);
    EXPECT_TRUE(derived(1, 0, {passing})->ephemeral);
}

}  // namespace
}  // namespace cooper::solver
