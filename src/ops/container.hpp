// Container: processes run for their own sake on the mounts of an ExecOp: frontends, and shells that people
// open in a build. What they write is seen by the next process, and goes with the container.
#pragma once

#include "llb/op.hpp"
#include "ops/environment.hpp"
#include "solver/vertex.hpp"

#include <memory>
#include <vector>

namespace cooper::ops {

enum class Terminal : std::uint8_t { no, yes };

class Container {
public:
    // The environment outlives it. Inputs of the mounts are indices into `inputs`.
    static Result<std::unique_ptr<Container>> create(Environment& environment, std::vector<llb::Mount> mounts,
                                                     std::vector<solver::SharedResult> inputs, Stop stop);
    virtual ~Container() = default;
    // Of `exec` all but its mounts counts. A process that ends with any code is no error.
    virtual Result<ExitStatus> run(const llb::ExecOp& exec, const run::Streams& streams, Terminal terminal,
                                   Stop stop) = 0;
    // Of a bind or cache mount, by its place. As it is now.
    virtual Result<snapshot::TreeRef> tree(std::size_t mount) = 0;
};

}  // namespace cooper::ops
