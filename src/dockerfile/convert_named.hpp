// Named contexts: what `--build-context NAME=VALUE` puts in place of an image or a stage
// Blocks on `bridge`.
#pragma once

#include "dockerfile/to_llb.hpp"

#include <functional>
#include <memory>

namespace cooper::dockerfile {

// Paths of a state that are used, rooted; shared by a stage and those built on it.
using UsedPaths = std::shared_ptr<std::set<std::string>>;

struct NamedContext {
    std::string name;  // as asked for, familiar, without ":latest"
    std::string key;   // NAME or NAME::PLATFORM, as found
    std::string value;
    oci::Platform platform;
};

struct LoadedContext {
    llb::State state;
    std::optional<oci::ImageConfig> image;
};

// nullopt: there is none of that name. "scratch" and "context" are never looked up.
[[nodiscard]] Result<std::optional<NamedContext>> find_named_context(const ConvertOptions& options,
                                                                     std::string_view name,
                                                                     const oci::Platform& platform);

// `paths`: read when the definition is made; a local context then only carries what is used.
[[nodiscard]] Result<LoadedContext> load_named_context(const NamedContext& context, const ConvertOptions& options,
                                                       const UsedPaths& paths, frontend::Bridge& bridge, Stop stop);

// The client that has a local context; empty: the one that asked for the build.
[[nodiscard]] std::string session_of(const ConvertOptions& options, const std::string& local_name);

// Relative, sorted; empty when everything is needed.
[[nodiscard]] std::vector<std::string> follow_paths(const std::set<std::string>& used);

// Environment, directory and platform of an image put on a state, as BuildKit's WithImageConfig.
void apply_image_config(llb::State& state, const oci::ImageConfig& image);

}  // namespace cooper::dockerfile
