#include "solver/graph.hpp"

#include "solver/graph_state.hpp"

#include <algorithm>
#include <utility>

namespace cooper::solver {

Graph::Graph(Runner& runner, CacheStore& cache, ResultStore& results, const Clock& clock)
    : runner_(runner), cache_(cache), results_(results), clock_(clock) {}

Graph::~Graph() = default;

void Graph::handle(Message message) {
    std::visit([this](auto&& one) { on(std::move(one)); }, std::move(message));
    settle();
}

void Graph::on(TaskDone message) {
    const auto found = tasks_.find(message.task);
    if (found == tasks_.end()) return;
    const std::shared_ptr<Node> node = std::move(found->second);
    tasks_.erase(found);
    --node->tasks;
    if (node->dead) return;
    std::visit([&](auto&& outcome) { take(*node, std::move(outcome)); }, std::move(message.outcome));
}

void Graph::on(Inspect message) { message.look(this); }

// ---- nodes and edges

Graph::Node& Graph::node_of(JobState& job, const std::shared_ptr<const Vertex>& vertex) {
    Node& node = find_or_create(job.cache, vertex);
    join(node, job);
    return node;
}

Graph::Node& Graph::find_or_create(CachePolicy policy, const std::shared_ptr<const Vertex>& vertex) {
    const bool ignore = policy == CachePolicy::ignore || vertex->options().ignore_cache;
    NodeKey key{vertex->digest(), ignore, vertex->options().scope};
    auto found = index_.find(key);
    // A plain one may share work that is done anew anyway, not the other way round.
    if (found == index_.end() && !ignore) found = index_.find({vertex->digest(), true, key.scope});
    if (found != index_.end()) {
        Node& node = *found->second;
        if (node.vertex->shared_op() != vertex->shared_op()) node.vertex->op().share(vertex->shared_op());
        return node;
    }
    auto node = std::make_shared<Node>();
    node->vertex = vertex;
    node->index_key = key;
    node->policy = policy;
    node->edges.resize(vertex->outputs());
    node->contents.resize(vertex->inputs().size());
    Node& created = *node;
    created.id = next_node_++;
    nodes_.emplace(created.id, std::move(node));
    index_.emplace(std::move(key), &created);
    return created;
}

Graph::Edge& Graph::edge_of(Node& node, std::uint32_t output) {
    std::unique_ptr<Edge>& slot = node.edges[output];
    if (!slot) {
        slot = std::make_unique<Edge>();
        slot->node = &node;
        slot->s = make_edge_state(*node.vertex, output, node.ignores_cache());
        slot->inputs.resize(node.vertex->inputs().size());
    }
    return *slot;
}

// The job now watches the node and all that the node has asked.
void Graph::join(Node& node, JobState& job) {
    std::vector<Node*> pending{&node};
    while (!pending.empty()) {
        Node& next = *pending.back();
        pending.pop_back();
        if (std::ranges::find(next.jobs, job.id) != next.jobs.end()) continue;
        next.jobs.push_back(job.id);
        // A late joiner is told where things stand.
        const bool begun = next.started || next.fate != VertexFate::untouched;
        if (begun) set_fate(next, job);
        const bool shown = begun && !next.vertex->options().hidden;
        next.audience->add(*job.progress, shown ? std::optional(event_of(next)) : std::nullopt);
        if (next.leader != nullptr) pending.push_back(next.leader);
        for (const auto& edge : next.edges) {
            if (!edge) continue;
            for (Edge* input : edge->inputs) {
                if (input != nullptr) pending.push_back(input->node);
            }
        }
    }
}

// ---- events and actions

void Graph::push(Edge& edge, Event event) { queue_.emplace_back(&edge, std::move(event)); }

void Graph::process(Edge& edge, Event event) {
    Actions actions;
    step(edge.s, std::move(event), actions);
    for (Action& action : actions) {
        std::visit([&](auto&& one) { act(edge, std::move(one)); }, std::move(action));
    }
}

void Graph::act(Edge& edge, AskMap action) {
    Node& node = *edge.node;
    if (action.index < node.maps.size()) {
        push(edge, MapKnown{node.maps[action.index]});
        return;
    }
    edge.awaits_map = true;
    if (node.map_running) return;
    node.map_running = true;
    Op& op = node.vertex->op();
    const std::size_t index = action.index;
    if (op.cache_map_is_cheap()) {
        VertexProgress progress(*node.audience, node.vertex->digest(), clock_);
        OpContext context{node.stop.get_token(), progress};
        take(node, MapDone{op.cache_map(index, context)});
        return;
    }
    if (node.vertex->inputs().empty()) show_started(node);
    start(node, op.pool() == PoolKind::nested ? PoolKind::nested : PoolKind::io,
          [vertex = node.vertex, index](OpContext& context) -> TaskOutcome {
              return MapDone{vertex->op().cache_map(index, context)};
          });
}

void Graph::act(Edge& edge, AskInput action) {
    Edge*& input = edge.inputs[action.input];
    if (input == nullptr) {
        const Output& output = edge.node->vertex->inputs()[action.input];
        Node& node = find_or_create(edge.node->policy, output.vertex);
        for (const JobId id : edge.node->jobs) {
            if (const auto job = jobs_.find(id); job != jobs_.end()) join(node, *job->second);
        }
        input = &edge_of(node, output.index);
        input->dependents.emplace_back(&edge, action.input);
        if (input->s.offered != Level::nothing || input->s.phase == Phase::failed) {
            send_state(*input, edge, action.input);
        }
    }
    if (input->s.wanted < action.level) push(*input, Wanted{action.level});
}

void Graph::act(Edge& edge, AskContent action) {
    Node& node = *edge.node;
    Node::Content& content = node.contents[action.input];
    if (content.key) {
        push(edge, ContentKnown{action.input, content.key});
        return;
    }
    if (std::exchange(content.asked, true)) return;
    show_started(node);
    start(node, PoolKind::io,
          [vertex = node.vertex, input = action.input, result = edge.s.inputs[action.input].result](OpContext& context)
              -> TaskOutcome { return ContentDone{input, vertex->op().content_digest(input, result, context)}; });
}

void Graph::act(Edge& edge, AskAlike action) {
    Node& node = *edge.node;
    Node::Content& content = node.contents[action.input];
    if (content.alike) {
        push(edge, AlikeKnown{action.input, *content.alike});
        return;
    }
    if (std::exchange(content.alike_asked, true)) return;
    show_started(node);
    start(node, PoolKind::io,
          [vertex = node.vertex, input = action.input, result = edge.s.inputs[action.input].result](OpContext& context)
              -> TaskOutcome { return AlikeDone{input, vertex->op().alike_digest(input, result, context)}; });
}

void Graph::act(Edge& edge, Follow action) {
    auto ids = cache_.follow(action.questions);
    if (!ids) {
        // A cache that cannot be read is a cache without answers.
        warn(*edge.node, "the build cache could not be read: " + ids.error().to_string());
        ids = std::vector<std::vector<KeyId>>(action.questions.size());
    }
    process(edge, Followed{std::move(action.inputs), std::move(*ids)});
}

void Graph::act(Edge& edge, FindRecords action) {
    auto records = cache_.records(action.keys);
    if (!records) {
        warn(*edge.node, "the build cache could not be read: " + records.error().to_string());
        records = std::vector<CacheRecord>();
    }
    std::erase_if(*records, [this](const CacheRecord& record) { return !results_.exists(record.result); });
    process(edge, RecordsFound{std::move(*records)});
}

void Graph::act(Edge& edge, Load action) {
    start(*edge.node, PoolKind::io,
          [this_results = &results_, this_cache = &cache_, output = static_cast<std::uint32_t>(edge.s.output),
           record = std::move(action.record)](OpContext& /*context*/) -> TaskOutcome {
              auto result = this_results->load(record.result);
              // Gone for good: it need not be found again. Failing to drop it only costs another try.
              if (result && !*result) static_cast<void>(this_cache->drop(record.result));
              return LoadDone{output, record, std::move(result)};
          });
}

void Graph::act(Edge& edge, Execute /*action*/) {
    edge.awaits_execution = true;
    begin_execution(edge);
}

// Several changes in a row are told once.
void Graph::act(Edge& edge, Announce /*action*/) {
    if (std::exchange(edge.announce_pending, true)) return;
    announcements_.push_back(&edge);
}

void Graph::announce(Edge& edge) {
    edge.announce_pending = false;
    Node& node = *edge.node;
    if (edge.s.phase == Phase::failed && !node.dead) {
        // Errors are never cached: who comes later tries again.
        if (const auto found = index_.find(node.index_key); found != index_.end() && found->second == &node) {
            index_.erase(found);
        }
    }
    if (edge.s.hit && edge.s.phase != Phase::executing && edge.s.phase != Phase::failed &&
        node.fate == VertexFate::untouched) {
        show_ended(node, VertexFate::cached, "");
    }
    if (edge.s.hit && !edge.learned) learn(edge);
    for (const auto& [dependent, input] : edge.dependents) send_state(edge, *dependent, input);
    if (edge.s.phase == Phase::done && !tasks_.empty()) {
        const auto is_unfinished = [](const Edge* input) { return input != nullptr && input->s.phase != Phase::done; };
        if (std::ranges::any_of(edge.inputs, is_unfinished)) sweep_wanted_ = true;
    }
    if (edge.is_target && edge.s.phase >= Phase::done) {
        for (const auto& [id, build] : builds_) check_build(*build);
    }
}

void Graph::send_state(const Edge& from, Edge& to, std::size_t input) {
    if (to.s.phase == Phase::done || to.s.phase == Phase::failed) return;
    if (from.s.phase == Phase::failed) {
        push(to, InputFailed{*from.s.error});
    } else {
        push(to, InputOffered{input, from.s.offered, from.s.keys, from.s.result, from.s.result_key});
    }
}

void Graph::warn(Node& node, std::string text) {
    VertexProgress(*node.audience, node.vertex->digest(), clock_).warn(WarningEvent{.short_text = std::move(text)});
}

void Graph::settle() {
    while (true) {
        if (!queue_.empty()) {
            auto [edge, event] = std::move(queue_.front());
            queue_.pop_front();
            process(*edge, std::move(event));
        } else if (!announcements_.empty()) {
            std::vector<Edge*> edges;
            edges.swap(announcements_);
            for (Edge* edge : edges) announce(*edge);
        } else if (std::exchange(sweep_wanted_, false)) {
            sweep();
        } else {
            break;
        }
    }
    answer_ended();
}

}  // namespace cooper::solver
