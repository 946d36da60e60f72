#include "solver/solver.hpp"

#include "base/guarded.hpp"
#include "base/work_pool.hpp"
#include "solver/graph.hpp"

#include <atomic>
#include <stop_token>
#include <thread>
#include <utility>

namespace cooper::solver {
namespace {

// Enough that nested builds never wait for one another's threads in any real graph.
constexpr std::size_t kNestedThreads = 256;

// A value that one thread waits for and another gives.
template <class T>
class Slot {
public:
    void set(T value) {
        *value_.lock() = std::move(value);
        value_.notify_all();
    }
    T wait() {
        auto value = value_.lock();
        value.wait([&] { return value->has_value(); });
        return std::move(**value);
    }

private:
    Guarded<std::optional<T>> value_;
};

}  // namespace

// The scheduler's thread with its inbox, and the pools.
class Solver::Engine final : public Runner {
public:
    Engine(SolverOptions options, CacheStore& cache, ResultStore& results, const Clock& clock)
        : graph_(*this, cache, results, clock),
          cpu_(options.cpu_jobs),
          io_(options.io_jobs),
          exec_(options.exec_jobs),
          nested_(kNestedThreads) {}
    ~Engine() override {
        inbox_.lock()->closing = true;
        inbox_.notify_all();
    }

    void run(PoolKind pool, std::move_only_function<void()> work) override { pool_of(pool).post(std::move(work)); }

    void post(Message message) override {
        auto inbox = inbox_.lock();
        inbox->messages.push_back(std::move(message));
        if (!inbox->thread_wanted) {
            inbox->thread_wanted = true;
            thread_ = std::jthread([this] { loop(); });
        }
        inbox_.notify_one();
    }

    [[nodiscard]] std::uint64_t next_id() { return next_id_.fetch_add(1); }

private:
    struct Inbox {
        std::vector<Message> messages;
        bool thread_wanted = false;
        bool closing = false;
    };

    WorkPool& pool_of(PoolKind pool) {
        switch (pool) {
            case PoolKind::cpu:
                return cpu_;
            case PoolKind::io:
                return io_;
            case PoolKind::exec:
                return exec_;
            case PoolKind::nested:
                return nested_;
        }
        UNREACHABLE();
    }

    void loop() noexcept {
        while (true) {
            std::vector<Message> messages;
            {
                auto inbox = inbox_.lock();
                inbox.wait([&] { return inbox->closing || !inbox->messages.empty(); });
                if (inbox->messages.empty()) return;
                messages.swap(inbox->messages);
            }
            for (Message& message : messages) graph_.handle(std::move(message));
        }
    }

    std::atomic<std::uint64_t> next_id_{1};
    Guarded<Inbox> inbox_;
    Graph graph_;  // scheduler's thread only
    // Joined in this order when the solver goes: the scheduler first, then the pools.
    WorkPool cpu_;
    WorkPool io_;
    WorkPool exec_;
    WorkPool nested_;
    std::jthread thread_;
};

namespace {

class SolverJob final : public Job {
public:
    SolverJob(Runner& runner, std::function<std::uint64_t()> next_id, const JobOptions& options)
        : runner_(runner), next_id_(std::move(next_id)), id_(next_id_()) {
        runner_.post(OpenJob{id_, &options.progress, options.cache});
    }
    ~SolverJob() override {
        const auto closed = std::make_shared<Slot<bool>>();
        runner_.post(CloseJob{id_, [closed] { closed->set(true); }});
        closed->wait();
    }

    Result<std::vector<SharedResult>> build(std::span<const Output> outputs, Stop stop) override {
        for (const Output& output : outputs) {
            if (!output.vertex || output.index >= output.vertex->outputs()) {
                return fail(Code::invalid_argument, Blame::cooper, "no such output to build");
            }
        }
        const auto answer = std::make_shared<Slot<Result<std::vector<SharedResult>>>>();
        const BuildId build = next_id_();
        runner_.post(StartBuild{
            id_, build, {outputs.begin(), outputs.end()}, [answer](Result<std::vector<SharedResult>> result) {
                answer->set(std::move(result));
            }});
        const std::stop_callback on_stop(stop, [this, build] { runner_.post(CancelBuild{build}); });
        return answer->wait();
    }

    Result<SharedResult> build(const Output& output, Stop stop) override {
        const std::vector<SharedResult> results = TRY(build(std::span(&output, 1), std::move(stop)));
        return results.front();
    }

    std::vector<VertexReport> report() override {
        return ask<std::vector<VertexReport>>([id = id_](const Graph& graph) { return graph.report(id); });
    }
    std::optional<OutputReport> explain(const Output& output) override {
        return ask<std::optional<OutputReport>>(
            [&, id = id_](const Graph& graph) { return graph.explain(id, output); });
    }
    std::optional<Digest> failed_vertex() override {
        return ask<std::optional<Digest>>([id = id_](const Graph& graph) { return graph.failed_vertex(id); });
    }

private:
    template <class T, class F>
    T ask(F question) {
        const auto answer = std::make_shared<Slot<T>>();
        runner_.post(Inspect{[answer, question](const Graph* graph) { answer->set(question(*graph)); }});
        return answer->wait();
    }

    Runner& runner_;
    std::function<std::uint64_t()> next_id_;
    JobId id_;
};

}  // namespace

Solver::Solver(SolverOptions options, CacheStore& cache, ResultStore& results, const Clock& clock)
    : engine_(std::make_unique<Engine>(options, cache, results, clock)) {}

Solver::~Solver() = default;

std::unique_ptr<Job> Solver::start_job(JobOptions options) {
    return std::make_unique<SolverJob>(*engine_, [engine = engine_.get()] { return engine->next_id(); }, options);
}

}  // namespace cooper::solver
