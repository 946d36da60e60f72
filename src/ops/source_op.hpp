// SourceOp as a solver::Op, by scheme: docker-image, oci-layout, local, http(s), git. What a source is
// cached by is what it resolves to.
#pragma once

#include "llb/op.hpp"
#include "ops/environment.hpp"
#include "solver/op.hpp"

#include <memory>

namespace cooper::ops {

struct SourceParts {
    Digest vertex;
    llb::SourceOp op;
    oci::Platform platform;
};

// Unknown schemes and bad attributes are errors here.
[[nodiscard]] Result<std::shared_ptr<solver::Op>> make_source_op(Environment& environment, SourceParts parts);

}  // namespace cooper::ops
