// Graph: jobs and builds, what is still wanted, and what people see.

#include "solver/graph.hpp"
#include "solver/graph_state.hpp"

#include <algorithm>
#include <utility>

namespace cooper::solver {

void Graph::on(OpenJob message) {
    auto job = std::make_unique<JobState>();
    job->id = message.job;
    job->progress = message.progress;
    job->cache = message.cache;
    jobs_.emplace(message.job, std::move(job));
}

void Graph::on(StartBuild message) {
    JobState& job = *jobs_.at(message.job);
    auto owned = std::make_unique<Build>();
    Build& build = *owned;
    build.id = message.build;
    build.job = &job;
    build.reply = std::move(message.reply);
    for (const Output& output : message.outputs) list_vertices(build, output.vertex);
    builds_.emplace(build.id, std::move(owned));
    for (const Output& output : message.outputs) {
        Edge& edge = edge_of(node_of(job, output.vertex), output.index);
        edge.is_target = true;
        build.targets.push_back(&edge);
        push(edge, Wanted{Level::result});
    }
    check_build(build);  // all may be there already
}

// Inputs before dependents, each vertex once, without recursion.
void Graph::list_vertices(Build& build, const std::shared_ptr<const Vertex>& root) {
    JobState& job = *build.job;
    struct Frame {
        const std::shared_ptr<const Vertex>* vertex;
        std::size_t next_input;
    };
    std::vector<Frame> stack{{&root, 0}};
    if (!build.listed.insert(root->digest()).second) return;
    while (!stack.empty()) {
        Frame& frame = stack.back();
        const Vertex& vertex = **frame.vertex;
        if (frame.next_input < vertex.inputs().size()) {
            const auto& input = vertex.inputs()[frame.next_input++].vertex;
            if (build.listed.insert(input->digest()).second) stack.push_back({&input, 0});
            continue;
        }
        const auto [entry, is_new] = job.by_digest.emplace(vertex.digest(), job.vertices.size());
        if (is_new) {
            job.vertices.push_back({*frame.vertex, VertexFate::untouched});
            if (!vertex.options().hidden) job.progress->emit(event_of(vertex));
        }
        build.order.push_back(entry->second);
        stack.pop_back();
    }
}

void Graph::on(CancelBuild message) {
    const auto found = builds_.find(message.build);
    if (found == builds_.end() || found->second->outcome) return;
    found->second->outcome = cancelled();
    end_build(*found->second);
}

void Graph::on(CloseJob message) {
    JobState& job = *jobs_.at(message.job);
    job.kept.clear();
    job.closing = std::move(message.reply);
    sweep_wanted_ = true;
}

void Graph::check_build(Build& build) {
    if (build.outcome) return;
    bool all_done = true;
    for (const Edge* target : build.targets) {
        if (target->s.phase == Phase::failed) {
            build.outcome = *target->s.error;
            return end_build(build);
        }
        if (target->s.phase != Phase::done) all_done = false;
    }
    if (!all_done) return;
    std::vector<SharedResult> results;
    for (Edge* target : build.targets) {
        results.push_back(target->s.result);
        build.job->kept.push_back(target);
        build.job->built.insert_or_assign({target->s.vertex, static_cast<std::uint32_t>(target->s.output)},
                                          report_on(*target));
    }
    build.outcome = std::move(results);
    show_rest_as_cached(build);
    end_build(build);
}

void Graph::end_build(Build& build) {
    if (build.outcome && !*build.outcome) {
        // What has ended is saved, and may be asked about; its nodes go with the targets.
        for (const auto& [id, node] : nodes_) {
            if (std::ranges::find(node->jobs, build.job->id) == node->jobs.end()) continue;
            for (const auto& edge : node->edges) {
                if (!edge || edge->s.phase != Phase::done) continue;
                build.job->built.insert_or_assign({node->vertex->digest(), static_cast<std::uint32_t>(edge->s.output)},
                                                  report_on(*edge));
            }
        }
    }
    build.targets.clear();
    sweep_wanted_ = true;
}

// Replies to builds and jobs whose outcome is known once no work of theirs is out any more.
void Graph::answer_ended() {
    const auto has_work = [this](JobId job) {
        return std::ranges::any_of(tasks_, [job](const auto& task) {
            return task.second->dead && std::ranges::find(task.second->jobs, job) != task.second->jobs.end();
        });
    };
    for (auto entry = builds_.begin(); entry != builds_.end();) {
        Build& build = *entry->second;
        if (build.outcome && !has_work(build.job->id)) {
            build.reply(std::move(*build.outcome));
            entry = builds_.erase(entry);
        } else {
            ++entry;
        }
    }
    for (auto entry = jobs_.begin(); entry != jobs_.end();) {
        JobState& job = *entry->second;
        if (job.closing && !has_work(job.id)) {
            for (const auto& [id, node] : nodes_) {
                std::erase(node->jobs, job.id);
                node->audience->remove(*job.progress);
            }
            auto reply = std::move(job.closing);
            entry = jobs_.erase(entry);
            reply();
        } else {
            ++entry;
        }
    }
}

// ---- what is still wanted

// Lets go of nodes that no job can reach, and stops work whose outcome nobody waits for.
void Graph::sweep() {
    const std::uint64_t mark = ++last_mark_;
    std::vector<Node*> pending;
    // Kept: reachable from any target, present or past.
    const auto reach = [&](Node* node) {
        if (node->mark_kept == mark) return;
        node->mark_kept = mark;
        pending.push_back(node);
    };
    for (const auto& [id, job] : jobs_) {
        for (Edge* edge : job->kept) reach(edge->node);
    }
    for (const auto& [id, build] : builds_) {
        for (Edge* edge : build->targets) reach(edge->node);
    }
    while (!pending.empty()) {
        Node& node = *pending.back();
        pending.pop_back();
        if (node.leader != nullptr) reach(node.leader);
        for (const auto& edge : node.edges) {
            if (!edge) continue;
            for (Edge* input : edge->inputs) {
                if (input != nullptr) reach(input->node);
            }
        }
    }
    // Needed: reachable from present targets over edges that may still ask.
    std::vector<Edge*> asking;
    const auto need = [&](Edge* edge) {
        edge->node->mark_needed = mark;
        if (edge->mark_needed == mark) return;
        edge->mark_needed = mark;
        asking.push_back(edge);
    };
    for (const auto& [id, build] : builds_) {
        for (Edge* edge : build->targets) need(edge);
    }
    while (!asking.empty()) {
        const Edge& edge = *asking.back();
        asking.pop_back();
        if (edge.s.phase == Phase::done || edge.s.phase == Phase::failed) continue;
        if (Node* leader = edge.node->leader) {
            for (const auto& of_leader : leader->edges) {
                if (of_leader) need(of_leader.get());
            }
        }
        for (Edge* input : edge.inputs) {
            if (input != nullptr) need(input);
        }
    }
    std::vector<std::shared_ptr<Node>> dropped;
    for (auto entry = nodes_.begin(); entry != nodes_.end();) {
        Node& node = *entry->second;
        const bool is_kept = node.mark_kept == mark;
        const bool is_idle = node.tasks == 0 && node.execution != Node::Execution::following;
        if (is_kept && (is_idle || node.mark_needed == mark)) {
            ++entry;
            continue;
        }
        dropped.push_back(std::move(entry->second));
        entry = nodes_.erase(entry);
    }
    for (const auto& node : dropped) drop(*node);
    if (dropped.empty()) return;
    for (const auto& [id, job] : jobs_) std::erase_if(job->kept, [](const Edge* edge) { return edge->node->dropped; });
    for (const auto& [id, node] : nodes_) {
        for (const auto& edge : node->edges) {
            if (!edge) continue;
            std::erase_if(edge->dependents, [](const auto& dependent) { return dependent.first->node->dropped; });
            for (Edge*& input : edge->inputs) {
                if (input != nullptr && input->node->dropped) input = nullptr;
            }
        }
    }
}

void Graph::drop(Node& node) {
    node.dropped = true;
    leave_indexes(node);
    if (node.dead) return;
    node.dead = true;
    if (node.started && !node.completed) {
        node.cancelled = true;
        show_ended(node, node.fate, "canceled");
    }
    if (node.tasks > 0) node.stop.request_stop();
}

// ---- what people see

VertexEvent Graph::event_of(const Vertex& vertex) {
    VertexEvent event{.digest = vertex.digest(), .name = vertex.name(), .group = vertex.options().group};
    for (const Output& input : vertex.inputs()) event.inputs.push_back(input.vertex->digest());
    return event;
}

VertexEvent Graph::event_of(const Node& node) {
    VertexEvent event = event_of(*node.vertex);
    event.started = node.started;
    event.completed = node.completed;
    event.cached = node.fate == VertexFate::cached;
    event.error = node.error;
    event.cancelled = node.cancelled;
    return event;
}

void Graph::show(Node& node) {
    if (!node.vertex->options().hidden) node.audience->emit(event_of(node));
}

void Graph::set_fate(const Node& node, JobState& job) {
    if (const auto found = job.by_digest.find(node.vertex->digest()); found != job.by_digest.end()) {
        job.vertices[found->second].fate = node.fate;
    }
}

void Graph::show_started(Node& node) {
    if (node.working++ > 0) return;
    node.fate = VertexFate::untouched;
    node.started = clock_.now() - node.worked;
    node.completed.reset();
    show(node);
}

void Graph::pause_clock(Node& node) {
    if (node.working > 0 && --node.working == 0) node.worked = clock_.now() - *node.started;
}

void Graph::show_paused(Node& node) {
    pause_clock(node);
    if (node.working > 0) return;
    node.completed = clock_.now();
    show(node);
}

void Graph::show_ended(Node& node, VertexFate fate, const std::string& error) {
    const Timestamp now = clock_.now();
    if (node.working > 0) node.worked = now - *node.started;
    node.working = 0;
    node.started = node.started ? now - node.worked : now;
    node.completed = now;
    node.fate = fate;
    node.error = error;
    for (const JobId id : node.jobs) {
        const auto job = jobs_.find(id);
        if (job == jobs_.end()) continue;
        const auto found = job->second->by_digest.find(node.vertex->digest());
        if (found != job->second->by_digest.end()) job->second->vertices[found->second].fate = fate;
    }
    show(node);
}

// What lies below a cached vertex was never asked for more than its key, if that: it is cached, too.
void Graph::show_rest_as_cached(Build& build) {
    JobState& job = *build.job;
    for (const std::size_t index : build.order) {
        JobState::Info& info = job.vertices[index];
        if (info.fate != VertexFate::untouched) continue;
        const NodeKey key{info.vertex->digest(),
                          job.cache == CachePolicy::ignore || info.vertex->options().ignore_cache,
                          info.vertex->options().scope};
        if (const auto found = index_.find(key); found != index_.end()) {
            // Another build may still be working on it.
            if (found->second->tasks == 0) show_ended(*found->second, VertexFate::cached, "");
            continue;
        }
        info.fate = VertexFate::cached;
        if (info.vertex->options().hidden) continue;
        VertexEvent event = event_of(*info.vertex);
        event.started = event.completed = clock_.now();
        event.cached = true;
        job.progress->emit(std::move(event));
    }
}

// ---- questions

std::vector<VertexReport> Graph::report(JobId job) const {
    std::vector<VertexReport> reports;
    for (const JobState::Info& info : jobs_.at(job)->vertices) {
        reports.push_back({info.vertex->digest(), info.vertex->name(), info.fate});
    }
    return reports;
}

OutputReport Graph::report_on(const Edge& edge) {
    const Node& node = *edge.node;
    const auto output = static_cast<std::size_t>(edge.s.output);
    OutputReport report{.key = edge.s.result_key, .cached = node.fate == VertexFate::cached};
    if (output < node.saved.size()) report.result = node.saved[output];
    if (report.result) report.created = node.created;
    return report;
}

std::optional<OutputReport> Graph::explain(JobId job, const Output& output) const {
    const auto& built = jobs_.at(job)->built;
    if (const auto found = built.find({output.vertex->digest(), output.index}); found != built.end()) {
        return found->second;
    }
    for (const auto& [id, node] : nodes_) {
        if (node->vertex->digest() != output.vertex->digest() || output.index >= node->edges.size()) continue;
        const auto& edge = node->edges[output.index];
        if (!edge || edge->s.phase != Phase::done || std::ranges::find(node->jobs, job) == node->jobs.end()) continue;
        return report_on(*edge);
    }
    return std::nullopt;
}

std::optional<Digest> Graph::failed_vertex(JobId job) const { return jobs_.at(job)->failed; }

}  // namespace cooper::solver
