// Where a build comes from: the Dockerfile, its context and the ignore file.
// Blocks on `bridge`.
#pragma once

#include "dockerfile/to_llb.hpp"

namespace cooper::dockerfile {

struct ContextOptions {
    // Empty: the directory `local_context` of the client. Else a git reference or an http(s) URL.
    std::string context;
    std::string filename = "Dockerfile";
    std::string subdir;  // of a remote context
    std::string local_context = "context";
    std::string local_dockerfile = "dockerfile";
    // Read the Dockerfile from `local_dockerfile` although the context is remote.
    bool force_local_dockerfile = false;
    std::optional<bool> keep_git_dir;
    bool commit_mtimes = false;                  // SOURCE_DATE_EPOCH is set: git files get the commit's time
    std::optional<std::string> dockerfile_text;  // given, not read
    // What the caller of the frontend built already, in place of the client's directories.
    std::optional<llb::Definition> context_input;
    std::optional<llb::Definition> dockerfile_input;
};

struct BuildSource {
    std::string filename;  // as found ("dockerfile" when "Dockerfile" is missing)
    std::string text;
    BuildContext context;
};

[[nodiscard]] Result<BuildSource> load_build_source(const ContextOptions& options, const llb::Platform& platform,
                                                    frontend::Bridge& bridge, Stop stop);

// The patterns of an ignore file of a local context; nullopt when there is none.
[[nodiscard]] Result<std::optional<std::vector<std::string>>> load_ignore_file(frontend::Bridge& bridge,
                                                                               const std::string& local_name,
                                                                               const std::string& path,
                                                                               const std::string& log_name, Stop stop);
// "[internal] name".
[[nodiscard]] std::string internal_name(std::string_view name);
// Last element of a URL's path, percent signs taken back; "__unnamed__" when there is none.
[[nodiscard]] std::string url_file_name(std::string_view url);
// A git repository as a state; options beyond the reference itself in `extra`.
[[nodiscard]] Result<std::optional<llb::State>> git_context(const std::string& reference,
                                                            std::optional<bool> keep_git_dir,
                                                            std::string_view default_mtime);

}  // namespace cooper::dockerfile
