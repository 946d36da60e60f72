// What conversion knows of one stage while it goes through its instructions, and of all stages.
// Owned by one Converter, one thread (resolving of images aside, each of which touches its own stage).
#pragma once

#include "dockerfile/convert_named.hpp"
#include "dockerfile/convert_names.hpp"
#include "dockerfile/instructions.hpp"
#include "dockerfile/to_llb.hpp"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace cooper::dockerfile {

struct StageState;

// One instruction and the stages it reads from: of a COPY at most one, of a RUN one per mount (null
// where a mount has none).
struct StageCommand {
    Instruction instruction;
    std::vector<StageState*> sources;
    bool on_build = false;
};

// What the text may grow to while it is worked out: a variable that doubles, environments of steps and
// configurations of stages are short to write and long to keep.
class Budget {
public:
    void charge(std::size_t bytes) { left_bytes_ -= std::min(left_bytes_, bytes); }
    [[nodiscard]] Result<> check() const {
        if (left_bytes_ > 0) return {};
        return bad_input("the Dockerfile grows to more than {} MiB here", kMostBytes >> 20U)
            .with_hint("variables, environments of steps and what stages inherit count");
    }

private:
    static constexpr std::size_t kMostBytes = 128U << 20U;
    std::size_t left_bytes_ = kMostBytes;
};

struct BuildArg {
    std::string key;
    std::optional<std::string> value;
};

struct StageState {
    Stage stage;
    std::string base_name;  // expanded
    StageState* base = nullptr;
    std::optional<oci::Platform> platform;
    std::optional<NamedContext> named_context;

    llb::State state;
    oci::ImageConfig image;                      // of its history, what the stages below do not have
    std::optional<oci::ImageConfig> base_image;  // as found
    std::vector<BuildArg> build_args;
    std::vector<StageCommand> commands;
    // Stages this one reads, each with where it says so.
    std::vector<std::pair<StageState*, Lines>> deps;
    std::set<std::string> context_paths;                          // of the main context
    UsedPaths paths = std::make_shared<std::set<std::string>>();  // of this stage, by others

    bool dispatched = false;
    bool resolved = false;
    bool pulled = false;  // the base is an image with layers, of a registry or of the store
    bool on_build_done = false;
    bool ignore_cache = false;
    bool unregistered = false;  // an image named by COPY --from, not a stage of the file
    bool workdir_set = false;
    bool cmd_set = false;
    StepCounter counter;
    OutlineScope outline;
};

}  // namespace cooper::dockerfile
