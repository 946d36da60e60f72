// Environment: what operations work with in one build. All references outlive the build's job.
#pragma once

#include "base/clock.hpp"
#include "ops/secret_guard.hpp"
#include "ops/source_pin.hpp"
#include "ops/trees.hpp"
#include "run/executor.hpp"
#include "session/session.hpp"
#include "source/git.hpp"
#include "source/http.hpp"
#include "source/image.hpp"
#include "source/local.hpp"
#include "store/store.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace cooper::ops {

struct Environment {
    store::Store& store;
    std::shared_ptr<store::Store> holder;  // the same: what results of this build are held by
    Trees& trees;
    session::Session& session;
    SecretGuard& secrets;  // what of them is left behind ends the step
    const Clock& clock;
    // The executor, made on first use: a build that runs nothing needs no runtime.
    std::function<Result<run::Executor*>()> executor;
    source::ImageSource& images;
    source::HttpSource& http;
    source::GitSource& git;
    // A local context of this build by its name and the attributes of the operation that wants it.
    std::function<Result<solver::SharedResult>(const std::string& name,
                                               const std::map<std::string, std::string>& attributes,
                                               VertexProgress& progress, const Stop& stop)>
        local;
    // Where the image of an oci-layout:// source is, by the store and the session that its attributes name.
    std::function<Result<std::unique_ptr<source::ImageOrigin>>(const std::map<std::string, std::string>& attributes,
                                                               const Stop& stop)>
        oci_layout;
    // Before a step uses a cache mount: what others have put into it. Empty: nothing.
    std::function<void(const std::string& key, VertexProgress& progress, const Stop& stop)> restore_cache_mount;
    // Is told what each source is, by the digest of its operation; may be empty. Any thread.
    std::function<void(const Digest& vertex, const SourcePin& pin)> note_pin;
    std::size_t threads = 2;
    // Gets the files of a step that fails; empty: nobody wants them.
    std::function<void(const std::string& step, store::Chain files)> keep_failed;
};

}  // namespace cooper::ops
