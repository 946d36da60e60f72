// Solver: builds outputs of a graph with the least work, shared between jobs. Its doors are here.
//
// One scheduler thread owns the graph (scheduler.hpp); ops run on pools sized by what they wait for.
// Threads start on first use. Two jobs that want the same vertex share it; work is stopped when no job
// wants it any more. A vertex that ended stays saved whatever happens next.
#pragma once

#include "base/clock.hpp"
#include "base/progress.hpp"
#include "base/result.hpp"
#include "base/stop.hpp"
#include "solver/cache.hpp"
#include "solver/op.hpp"
#include "solver/vertex.hpp"

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace cooper::solver {

struct SolverOptions {
    std::size_t cpu_jobs = 1;
    std::size_t io_jobs = 16;
    std::size_t exec_jobs = 1;
};

enum class CachePolicy : std::uint8_t {
    use,
    ignore,  // "--no-cache": nothing is read from the cache, all is saved
};

struct JobOptions {
    ProgressSink& progress;  // outlives the job
    CachePolicy cache = CachePolicy::use;
};

// What happened to a vertex in this job so far.
enum class VertexFate : std::uint8_t { untouched, cached, executed, failed };

struct VertexReport {
    Digest digest;
    std::string name;
    VertexFate fate = VertexFate::untouched;
};

// Why an output is what it is.
struct OutputReport {
    SharedKey key;                   // the key it was found or saved under
    std::optional<ResultId> result;  // unset: could not be saved
    std::optional<Timestamp> created;
    bool cached = false;
};

class Job {
public:
    Job(const Job&) = delete;
    Job& operator=(const Job&) = delete;
    // Leaves: results are let go, nothing is emitted afterwards. No build() may be running.
    virtual ~Job() = default;

    // Blocks until all outputs are there, in order; or until the first failure or the stop, and then
    // until all work that only this job wanted has ended. Any thread, several at once; never from an
    // op unless its pool is PoolKind::nested.
    virtual Result<std::vector<SharedResult>> build(std::span<const Output> outputs, Stop stop) = 0;
    virtual Result<SharedResult> build(const Output& output, Stop stop) = 0;

    // All vertices of this job's graphs, inputs before dependents.
    virtual std::vector<VertexReport> report() = 0;
    // Of an output that this job has had built (or has loaded), also on the way to a failure; nullopt otherwise.
    virtual std::optional<OutputReport> explain(const Output& output) = 0;
    // Whose own work failed first; nullopt when nothing failed.
    virtual std::optional<Digest> failed_vertex() = 0;

protected:
    Job() = default;
};

class Solver {
public:
    // The stores and the clock outlive the solver.
    Solver(SolverOptions options, CacheStore& cache, ResultStore& results, const Clock& clock);
    Solver(const Solver&) = delete;
    Solver& operator=(const Solver&) = delete;
    // Precondition: no job is alive.
    ~Solver();

    [[nodiscard]] std::unique_ptr<Job> start_job(JobOptions options);

private:
    class Engine;
    std::unique_ptr<Engine> engine_;
};

}  // namespace cooper::solver
