// Environment: what operations work with in one build. All references outlive the build's job.
#pragma once

#include "base/clock.hpp"
#include "ops/trees.hpp"
#include "run/executor.hpp"
#include "session/session.hpp"
#include "source/local.hpp"
#include "store/store.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cooper::ops {

struct Environment {
    store::Store& store;
    Trees& trees;
    session::Session& session;
    const Clock& clock;
    // The executor, made on first use: a build that runs nothing needs no runtime.
    std::function<Result<run::Executor*>()> executor;
    std::size_t threads = 2;
};

}  // namespace cooper::ops
