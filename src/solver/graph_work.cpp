// Graph: work that leaves the scheduler's thread, and what it brings back.

#include "solver/graph.hpp"
#include "solver/graph_state.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <iterator>
#include <utility>

namespace cooper::solver {
namespace {

// All that a finished execution adds to the cache, but for the result ids.
struct Saving {
    std::vector<std::vector<SharedKey>> keys;  // per output, none of them ephemeral
};

std::vector<LinkTo> links_to(const CacheKey& key) {
    std::vector<LinkTo> links;
    for (std::size_t i = 0; i < key.inputs.size(); ++i) {
        for (const CacheKey::Dep& dep : key.inputs[i]) {
            if (dep.key->ephemeral) continue;
            links.push_back(
                {dep.key->id, {static_cast<std::uint32_t>(i), key.output, key.digest, dep.selector}, key.id});
        }
    }
    return links;
}

// Pool thread. The result is good even when it cannot be saved; then somebody should know.
ExecuteDone save_results(std::vector<SharedResult> results, const Saving& saving, CacheStore& cache, ResultStore& store,
                         Timestamp now, VertexProgress& progress) {
    ExecuteDone done{
        .results = Result<std::vector<SharedResult>>(std::vector<SharedResult>()), .saved = {}, .created = now};
    done.saved.resize(results.size());
    CacheAddition addition;
    std::optional<Error> problem;
    for (std::size_t k = 0; k < results.size(); ++k) {
        if (saving.keys[k].empty()) continue;
        Result<ResultId> id = store.save(results[k]);
        if (!id) {
            problem = id.error();
            continue;
        }
        for (const SharedKey& key : saving.keys[k]) {
            std::ranges::move(links_to(*key), std::back_inserter(addition.links));
            addition.records.push_back({key->id, *id, now});
        }
        done.saved[k] = std::move(*id);
    }
    if (!addition.records.empty()) {
        if (Result<> added = cache.add(addition); !added) {
            problem = added.error();
            std::ranges::fill(done.saved, std::nullopt);
        }
    }
    if (problem) {
        progress.warn(
            WarningEvent{.short_text = "the result could not be saved in the build cache: " + problem->to_string()});
    }
    done.results = std::move(results);
    return done;
}

}  // namespace

void Graph::start(Node& node, PoolKind pool, std::move_only_function<TaskOutcome(OpContext&)> work) {
    const TaskId task = next_task_++;
    ++node.tasks;
    tasks_.emplace(task, nodes_.at(node.id));
    runner_.run(pool, [task, runner = &runner_, clock = &clock_, vertex = node.vertex->digest(),
                       audience = node.audience, stop = node.stop.get_token(), work = std::move(work)]() mutable {
        VertexProgress progress(*audience, vertex, *clock);
        OpContext context{stop, progress};
        TaskOutcome outcome = work(context);
        work = nullptr;  // what it held is let go before anybody is told
        runner->post(TaskDone{task, std::move(outcome)});
    });
}

// ---- cache maps

void Graph::take(Node& node, MapDone outcome) {
    node.map_running = false;
    if (node.working > 0) show_paused(node);
    if (!outcome.part) return fail_node(node, outcome.part.error());
    node.maps.push_back(std::move(*outcome.part));
    for (const auto& edge : node.edges) {
        if (edge && std::exchange(edge->awaits_map, false)) push(*edge, MapKnown{node.maps[edge->s.maps_known]});
    }
}

// ---- content digests

void Graph::take(Node& node, ContentDone outcome) {
    if (!outcome.digest) return fail_node(node, outcome.digest.error());
    // The pause is not shown as an end: what follows, cached or executed, shows itself.
    pause_clock(node);
    node.contents[outcome.input].key = make_content_key(*outcome.digest);
    for (const auto& edge : node.edges) {
        if (edge && edge->s.inputs[outcome.input].content == InputState::Content::asked) {
            push(*edge, ContentKnown{outcome.input, node.contents[outcome.input].key});
        }
    }
}

void Graph::take(Node& node, AlikeDone outcome) {
    if (!outcome.digest) return fail_node(node, outcome.digest.error());
    pause_clock(node);
    node.contents[outcome.input].alike = *outcome.digest;
    for (const auto& edge : node.edges) {
        if (edge && edge->s.inputs[outcome.input].alike == InputState::Content::asked) {
            push(*edge, AlikeKnown{outcome.input, *outcome.digest});
        }
    }
}

// ---- loading

void Graph::take(Node& node, LoadDone outcome) {
    Edge& edge = *node.edges[outcome.output];
    // A record that cannot be loaded, for whatever reason, is as good as none.
    std::optional<SharedResult> result;
    if (outcome.result) result = std::move(*outcome.result);
    if (result) {
        if (node.saved.empty()) node.saved.resize(node.edges.size());
        if (!node.saved[outcome.output]) node.saved[outcome.output] = outcome.record.result;
        if (node.execution == Node::Execution::none) node.created = outcome.record.created;
        if (node.fate == VertexFate::untouched) show_ended(node, VertexFate::cached, "");
    }
    push(edge, Loaded{std::move(result), std::move(outcome.record)});
}

// ---- executing

// How executions are found by those with an equal key: one entry per link, as in the cache store.
std::vector<std::vector<std::string>> Graph::link_names(const Edge& edge) {
    const EdgeState& s = edge.s;
    const std::string op = s.map.digest.to_string() + (s.ignore_cache ? "!" : "");
    if (s.inputs.empty()) return {{op}};
    std::vector<std::vector<std::string>> names;
    const SharedKey key = execution_key(s, s.output);
    for (std::size_t i = 0; i < key->inputs.size(); ++i) {
        std::vector<std::string>& of_input = names.emplace_back();
        for (const CacheKey::Dep& dep : key->inputs[i]) {
            of_input.push_back(fmt::format("{} {} {} {}", op, i, dep.selector.to_string(), dep.key->id));
        }
    }
    return names;
}

// A node that executes, or has executed, what this edge is about to execute.
Graph::Node* Graph::find_equal(const Edge& edge, const std::vector<std::vector<std::string>>& names) {
    std::vector<Node*> equal;
    for (std::size_t i = 0; i < names.size(); ++i) {
        std::vector<Node*> reached;
        for (const std::string& name : names[i]) {
            const auto [begin, end] = executions_.equal_range(name);
            for (auto entry = begin; entry != end; ++entry) reached.push_back(entry->second);
        }
        if (i == 0) {
            equal = std::move(reached);
        } else {
            std::erase_if(equal, [&](Node* node) { return std::ranges::find(reached, node) == reached.end(); });
        }
    }
    std::erase_if(equal, [&](const Node* node) {
        return node == edge.node || node->dead || node->vertex->outputs() != edge.node->vertex->outputs();
    });
    return equal.empty() ? nullptr : equal.front();
}

void Graph::begin_execution(Edge& edge) {
    Node& node = *edge.node;
    if (node.execution == Node::Execution::done) return deliver_results(node);
    if (node.execution != Node::Execution::none) return;
    std::vector<std::vector<std::string>> names = link_names(edge);
    if (Node* leader = find_equal(edge, names)) {
        node.execution = Node::Execution::following;
        node.leader = leader;
        leader->followers.push_back(&node);
        for (const JobId id : node.jobs) {
            if (const auto job = jobs_.find(id); job != jobs_.end()) join(*leader, *job->second);
        }
        if (leader->execution == Node::Execution::done) adopt(node, *leader);
        return;
    }
    node.execution = Node::Execution::running;
    for (std::vector<std::string>& of_input : names) {
        for (std::string& name : of_input) {
            executions_.emplace(name, &node);
            node.execution_links.push_back(std::move(name));
        }
    }
    Saving saving;
    const std::uint32_t outputs = node.vertex->outputs();
    saving.keys.resize(outputs);
    for (std::uint32_t k = 0; k < outputs; ++k) {
        SharedKey key = execution_key(edge.s, static_cast<std::int32_t>(k));
        if (!key->ephemeral) saving.keys[k].push_back(key);
        node.result_keys.push_back(std::move(key));
    }
    if (edge.s.inputs.empty()) {
        // A root is saved under every map it gave.
        std::vector<SharedKey>& own = saving.keys[static_cast<std::size_t>(edge.s.output)];
        for (const SharedKey& key : edge.s.keys) {
            const auto same = [&](const SharedKey& other) { return other->id == key->id; };
            if (!key->ephemeral && std::ranges::none_of(own, same)) own.push_back(key);
        }
    }
    std::vector<SharedResult> inputs;
    for (const InputState& input : edge.s.inputs) inputs.push_back(input.result);
    show_started(node);
    start(node, node.vertex->op().pool(),
          [vertex = node.vertex, inputs = std::move(inputs), saving = std::move(saving), cache = &cache_,
           store = &results_, clock = &clock_](OpContext& context) -> TaskOutcome {
              // Work that waited for its turn longer than anybody for it is not begun.
              if (context.stop.stop_requested()) return ExecuteDone{cancelled(), {}, {}};
              auto results = vertex->op().execute(inputs, context);
              if (!results) return ExecuteDone{results.error(), {}, {}};
              if (results->size() != vertex->outputs()) {
                  return ExecuteDone{fail(Code::internal, Blame::cooper, "op gave {} results where its vertex has {}",
                                          results->size(), vertex->outputs()),
                                     {},
                                     {}};
              }
              return save_results(std::move(*results), saving, *cache, *store, clock->now(), context.progress);
          });
}

void Graph::take(Node& node, ExecuteDone outcome) {
    if (!outcome.results) return fail_node(node, outcome.results.error());
    node.execution = Node::Execution::done;
    node.results = std::move(*outcome.results);
    node.saved = std::move(outcome.saved);
    node.created = outcome.created;
    show_ended(node, VertexFate::executed, "");
    deliver_results(node);
    for (Node* follower : std::exchange(node.followers, {})) adopt(*follower, node);
}

// What was found by content is found by definition next time, without looking at contents.
void Graph::learn(Edge& edge) {
    edge.learned = true;
    const EdgeState& s = edge.s;
    if (std::ranges::none_of(s.inputs, [](const InputState& input) { return input.content_key != nullptr; })) return;
    const KeyId& to = s.keys.back()->id;  // the newest match, which gave the record
    CacheAddition addition;
    for (std::size_t i = 0; i < s.inputs.size(); ++i) {
        const InputState& input = s.inputs[i];
        if (std::ranges::binary_search(input.candidates, to) && !input.content_key) continue;
        if (input.alike_content) {
            // Found under a content that would do as well.
            addition.links.push_back(
                {input.content_key->id, {static_cast<std::uint32_t>(i), s.output, s.map.digest, Digest()}, to});
        }
        for (const SharedKey& key : input.keys) {
            if (key->ephemeral) continue;
            addition.links.push_back(
                {key->id, {static_cast<std::uint32_t>(i), s.output, s.map.digest, input.selector}, to});
        }
    }
    if (addition.links.empty()) return;
    // Nobody waits for it, and when it fails nothing is lost but time.
    runner_.run(PoolKind::io,
                [cache = &cache_, addition = std::move(addition)] { static_cast<void>(cache->add(addition)); });
}

void Graph::adopt(Node& node, const Node& leader) {
    node.execution = Node::Execution::done;
    node.leader = nullptr;
    node.results = leader.results;
    node.result_keys = leader.result_keys;
    node.saved = leader.saved;
    node.created = leader.created;
    show_ended(node, VertexFate::cached, "");
    deliver_results(node);
}

void Graph::deliver_results(Node& node) {
    for (const auto& edge : node.edges) {
        if (!edge || !std::exchange(edge->awaits_execution, false)) continue;
        const auto k = static_cast<std::size_t>(edge->s.output);
        push(*edge, Executed{node.results[k], node.result_keys[k]});
    }
}

// ---- failing

void Graph::fail_node(Node& node, const Error& error) {
    if (node.dead) return;
    node.dead = true;
    node.stop.request_stop();
    leave_indexes(node);
    show_ended(node, VertexFate::failed, error.to_string());
    for (const JobId id : node.jobs) {
        const auto job = jobs_.find(id);
        if (job != jobs_.end() && !job->second->failed) job->second->failed = node.vertex->digest();
    }
    for (const auto& edge : node.edges) {
        if (edge) push(*edge, Failed{error});
    }
    for (Node* follower : std::exchange(node.followers, {})) fail_node(*follower, error);
}

void Graph::leave_indexes(Node& node) {
    if (const auto found = index_.find(node.index_key); found != index_.end() && found->second == &node) {
        index_.erase(found);
    }
    for (const std::string& name : node.execution_links) {
        const auto [begin, end] = executions_.equal_range(name);
        for (auto entry = begin; entry != end; ++entry) {
            if (entry->second == &node) {
                executions_.erase(entry);
                break;
            }
        }
    }
    node.execution_links.clear();
    if (node.leader != nullptr) std::erase(std::exchange(node.leader, nullptr)->followers, &node);
}

}  // namespace cooper::solver
