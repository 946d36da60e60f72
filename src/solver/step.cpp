#include "solver/step.hpp"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <utility>

namespace cooper::solver {
namespace {

bool is_content_ready(const InputState& input) {
    if (!input.content_based) return true;
    return input.content == InputState::Content::known &&
           (!input.has_alike || input.alike == InputState::Content::known);
}

// Could asking this input for more still lead somewhere?
bool has_potential(const InputState& input) { return input.offered < Level::all_keys || !is_content_ready(input); }

bool leads_nowhere(const InputState& input) { return input.offered >= Level::fast_keys && input.candidates.empty(); }

// All keys by which an input is known, each with the selector that narrows it.
std::vector<CacheKey::Dep> deps_of(const InputState& input) {
    std::vector<CacheKey::Dep> deps;
    for (const SharedKey& key : input.keys) deps.push_back({input.selector, key});
    if (input.result_key &&
        std::ranges::none_of(input.keys, [&](const SharedKey& key) { return key->id == input.result_key->id; })) {
        deps.push_back({input.selector, input.result_key});
    }
    if (input.content_key) deps.push_back({Digest(), input.content_key});
    // Who looks for this one under its own name need not be told that it is alike to itself.
    if (input.alike_content && *input.alike_content != input.content_key->digest)
        deps.push_back({Digest(), make_alike_key(*input.alike_content)});
    return deps;
}

CacheKey key_parts(const EdgeState& state, std::int32_t output) {
    CacheKey key{
        .digest = state.map.digest, .output = output, .ephemeral = state.map.ephemeral, .vertex = state.vertex};
    for (const InputState& input : state.inputs) key.inputs.push_back(deps_of(input));
    return key;
}

class Stepper {
public:
    Stepper(EdgeState& state, Actions& actions) : s_(state), actions_(actions) {}

    void apply(Wanted&& event) { s_.wanted = std::max(s_.wanted, event.level); }

    void apply(MapKnown&& event) {
        ++s_.maps_known;
        s_.more_maps = event.part.more && s_.inputs.empty();
        s_.map = std::move(event.part.map);
        if (!s_.inputs.empty() && s_.map.inputs.size() != s_.inputs.size()) {
            fail_with(fail(Code::internal, Blame::cooper, "cache map has {} inputs where the vertex has {}",
                           s_.map.inputs.size(), s_.inputs.size()));
            return;
        }
        for (std::size_t i = 0; i < s_.inputs.size(); ++i) {
            s_.inputs[i].selector = s_.map.inputs[i].selector;
            s_.inputs[i].content_based = s_.map.inputs[i].content_based;
            s_.inputs[i].has_alike = s_.map.inputs[i].has_alike;
        }
        if (s_.inputs.empty() && !s_.ignore_cache) add_root_key();
    }

    void apply(InputOffered&& event) {
        InputState& input = s_.inputs[event.input];
        input.offered = std::max(input.offered, event.level);
        if (event.keys.size() > input.keys.size()) input.keys = std::move(event.keys);
        if (event.level == Level::result) {
            input.result = std::move(event.result);
            input.result_key = std::move(event.result_key);
        }
    }

    void apply(ContentKnown&& event) {
        s_.inputs[event.input].content = InputState::Content::known;
        s_.inputs[event.input].content_key = std::move(event.key);
    }

    void apply(AlikeKnown&& event) {
        s_.inputs[event.input].alike = InputState::Content::known;
        s_.inputs[event.input].alike_content = event.content;
    }

    void apply(Followed&& event) {
        s_.awaiting_lookup = false;
        for (std::size_t i = 0; i < event.inputs.size() && i < event.ids.size(); ++i) {
            std::vector<KeyId>& candidates = s_.inputs[event.inputs[i]].candidates;
            std::ranges::move(event.ids[i], std::back_inserter(candidates));
            std::ranges::sort(candidates);
            candidates.erase(std::ranges::unique(candidates).begin(), candidates.end());
        }
        add_matching_keys();
    }

    void apply(RecordsFound&& event) {
        s_.awaiting_lookup = false;
        // Only of keys we have: what a damaged store adds is not ours.
        for (CacheRecord& record : event.records) {
            if (find_key(record.key)) s_.records.push_back(std::move(record));
        }
        if (!s_.records.empty()) s_.hit = true;
    }

    void apply(Loaded&& event) {
        if (event.result) {
            finish(std::move(*event.result), find_key(event.record.key));
            return;
        }
        s_.phase = Phase::asking;
        if (s_.input_error) fail_with(*s_.input_error);
    }

    void apply(Executed&& event) { finish(std::move(event.result), std::move(event.key)); }

    void apply(InputFailed&& event) {
        // Who loads or is done has no need of his inputs; he may yet, when the load fails.
        if (s_.phase == Phase::asking) {
            fail_with(std::move(event.error));
        } else {
            s_.input_error = std::move(event.error);
        }
    }

    void apply(Failed&& event) { fail_with(std::move(event.error)); }

    void advance();

private:
    SharedKey find_key(const KeyId& id) const {
        const auto found = std::ranges::find_if(s_.keys, [&](const SharedKey& key) { return key->id == id; });
        return found == s_.keys.end() ? nullptr : *found;
    }
    void finish(SharedResult result, SharedKey key);
    void fail_with(Error error);
    void offer(Level level);
    void ask_input(std::size_t index, Level level);
    void ask_next_map();
    void add_root_key();
    void add_matching_keys();
    void find_records(std::vector<KeyId> ids);
    void follow_new_keys();
    void raise(std::size_t index);
    bool search_further();
    void prepare_execution();

    EdgeState& s_;
    Actions& actions_;
};

void Stepper::finish(SharedResult result, SharedKey key) {
    s_.result = std::move(result);
    s_.result_key = std::move(key);
    s_.phase = Phase::done;
    s_.offered = Level::result;
    s_.records.clear();
    actions_.push_back(Announce{});
}

void Stepper::fail_with(Error error) {
    if (s_.phase == Phase::done || s_.phase == Phase::failed) return;
    s_.error = std::move(error);
    s_.phase = Phase::failed;
    actions_.push_back(Announce{});
}

void Stepper::offer(Level level) {
    if (s_.offered >= level) return;
    s_.offered = level;
    actions_.push_back(Announce{});
}

void Stepper::ask_input(std::size_t index, Level level) {
    InputState& input = s_.inputs[index];
    if (input.asked >= level) return;
    input.asked = level;
    actions_.push_back(AskInput{index, level});
}

void Stepper::ask_next_map() {
    if (s_.maps_asked == s_.maps_known) actions_.push_back(AskMap{s_.maps_asked++});
}

void Stepper::add_root_key() {
    SharedKey key = make_root_key(s_.map.digest, s_.output, s_.vertex, s_.map.ephemeral);
    s_.keys.push_back(key);
    if (!key->ephemeral) find_records({key->id});
}

// Keys that links from every input lead to.
void Stepper::add_matching_keys() {
    std::vector<KeyId> matches = s_.inputs.front().candidates;
    for (const InputState& input : s_.inputs) {
        std::erase_if(matches, [&](const KeyId& id) { return !std::ranges::binary_search(input.candidates, id); });
    }
    std::erase_if(matches, [&](const KeyId& id) {
        return std::ranges::any_of(s_.keys, [&](const SharedKey& key) { return key->id == id; });
    });
    if (matches.empty()) return;
    CacheKey parts = key_parts(s_, s_.output);
    for (const KeyId& id : matches) {
        parts.id = id;
        s_.keys.push_back(share_key(parts));
    }
    if (s_.offered != Level::nothing) actions_.push_back(Announce{});
    find_records(std::move(matches));
}

void Stepper::find_records(std::vector<KeyId> ids) {
    s_.awaiting_lookup = true;
    actions_.push_back(FindRecords{std::move(ids)});
}

void Stepper::follow_new_keys() {
    Follow follow;
    const auto ask = [&](std::size_t index, const SharedKey& key, const Digest& selector) {
        if (key->ephemeral) return;
        follow.questions.push_back({key->id, {static_cast<std::uint32_t>(index), s_.output, s_.map.digest, selector}});
        follow.inputs.push_back(index);
    };
    for (std::size_t i = 0; i < s_.inputs.size(); ++i) {
        InputState& input = s_.inputs[i];
        for (; input.followed < input.keys.size(); ++input.followed) ask(i, input.keys[input.followed], input.selector);
        if (input.content_key && !input.content_followed) {
            input.content_followed = true;
            ask(i, input.content_key, Digest());
        }
        if (input.alike_content && !input.alike_followed) {
            input.alike_followed = true;
            if (*input.alike_content != input.content_key->digest)
                ask(i, make_content_key(*input.alike_content), Digest());
            ask(i, make_alike_key(*input.alike_content), Digest());
        }
    }
    if (follow.questions.empty()) return;
    s_.awaiting_lookup = true;
    actions_.push_back(std::move(follow));
}

// Moves one input a step along the slow phase: its own slow phase first, then its result and content.
void Stepper::raise(std::size_t index) {
    InputState& input = s_.inputs[index];
    if (input.offered < Level::all_keys) {
        ask_input(index, Level::all_keys);
    } else if (input.content_based && input.offered < Level::result) {
        ask_input(index, Level::result);
    } else if (input.content_based && input.content == InputState::Content::unknown) {
        input.content = InputState::Content::asked;
        actions_.push_back(AskContent{index});
    } else if (input.content_based && input.has_alike && input.content == InputState::Content::known &&
               input.alike == InputState::Content::unknown) {
        input.alike = InputState::Content::asked;
        actions_.push_back(AskAlike{index});
    }
}

// False when no answer of any input can lead to a key any more.
bool Stepper::search_further() {
    bool all_lead_somewhere = true;
    bool any_potential = false;
    for (const InputState& input : s_.inputs) {
        if (leads_nowhere(input) && !has_potential(input)) return false;
        if (input.candidates.empty()) all_lead_somewhere = false;
        if (has_potential(input)) any_potential = true;
    }
    if (!any_potential) return false;
    // First those that lead nowhere yet: when one of them stays so, the others need not be computed.
    for (std::size_t i = 0; i < s_.inputs.size(); ++i) {
        const InputState& input = s_.inputs[i];
        const bool worth = all_lead_somewhere ? has_potential(input) : leads_nowhere(input);
        if (worth) raise(i);
    }
    return true;
}

void Stepper::prepare_execution() {
    bool ready = true;
    for (std::size_t i = 0; i < s_.inputs.size(); ++i) {
        InputState& input = s_.inputs[i];
        ask_input(i, Level::result);
        if (input.offered < Level::result) {
            ready = false;
        } else if (!is_content_ready(input)) {
            // Also when nothing is looked up: the result must be findable by content next time.
            ready = false;
            raise(i);
        }
    }
    if (!ready) return;
    s_.phase = Phase::executing;
    actions_.push_back(Execute{});
}

void Stepper::advance() {
    if (s_.phase != Phase::asking || s_.wanted == Level::nothing || s_.awaiting_lookup) return;
    if (s_.ignore_cache) {
        // Nothing is known before the result is: dependents must not find old results either.
        if (s_.wanted < Level::result) return offer(Level::all_keys);
        if (s_.maps_known == 0) ask_next_map();
        for (std::size_t i = 0; i < s_.inputs.size(); ++i) ask_input(i, Level::result);
        if (s_.maps_known != 0) prepare_execution();
        return;
    }
    if (s_.maps_known == 0) ask_next_map();
    for (std::size_t i = 0; i < s_.inputs.size(); ++i) ask_input(i, Level::fast_keys);
    if (s_.maps_known == 0) return;
    if (!s_.map.ephemeral) {
        follow_new_keys();
        if (s_.awaiting_lookup) return;
    }
    if (s_.records.empty() && s_.more_maps) {
        ask_next_map();
        return;
    }
    if (!s_.records.empty()) {
        offer(Level::all_keys);
        if (s_.wanted < Level::result) return;
        // The newest; of equally new ones any, but always the same.
        const auto best = std::ranges::max_element(s_.records, [](const CacheRecord& a, const CacheRecord& b) {
            return std::tie(a.created, b.result) < std::tie(b.created, a.result);
        });
        s_.phase = Phase::loading;
        actions_.push_back(Load{std::move(*best)});
        s_.records.erase(best);
        return;
    }
    const bool fast_done =
        std::ranges::all_of(s_.inputs, [](const InputState& input) { return input.offered >= Level::fast_keys; }) ||
        std::ranges::any_of(s_.inputs, leads_nowhere) || s_.map.ephemeral;
    if (fast_done) offer(Level::fast_keys);
    if (s_.wanted == Level::fast_keys && !s_.inputs.empty()) return;
    if (s_.wanted == Level::all_keys && fast_done && !s_.keys.empty()) return offer(Level::all_keys);
    if (!s_.map.ephemeral && search_further()) return;
    offer(Level::all_keys);
    if (s_.wanted == Level::result) prepare_execution();
}

}  // namespace

EdgeState make_edge_state(const Vertex& vertex, std::uint32_t output, bool ignore_cache) {
    EdgeState state;
    state.vertex = vertex.digest();
    state.output = static_cast<std::int32_t>(output);
    state.ignore_cache = ignore_cache;
    state.inputs.resize(vertex.inputs().size());
    return state;
}

void step(EdgeState& state, Event event, Actions& actions) {
    Stepper stepper(state, actions);
    std::visit([&](auto&& one) { stepper.apply(std::move(one)); }, std::move(event));
    stepper.advance();
}

SharedKey execution_key(const EdgeState& state, std::int32_t output) {
    if (state.inputs.empty()) return make_root_key(state.map.digest, output, state.vertex, state.map.ephemeral);
    // A key found without a usable record is completed rather than doubled.
    if (output == state.output && !state.keys.empty()) {
        CacheKey parts = key_parts(state, output);
        parts.id = state.keys.front()->id;
        return share_key(std::move(parts));
    }
    return make_derived_key(key_parts(state, output));
}

}  // namespace cooper::solver
