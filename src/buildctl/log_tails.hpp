// LogTails: passes progress on and keeps the last lines of each step, so that the error of a step can end with them.
// Any thread.
#pragma once

#include "base/guarded.hpp"
#include "base/progress.hpp"

#include <string>
#include <unordered_map>

namespace cooper::buildctl {

class LogTails final : public ProgressSink {
public:
    explicit LogTails(ProgressSink& next) : next_(next) {}
    void emit(ProgressEvent event) override;
    // With what the step that failed printed last.
    [[nodiscard]] Error add_to(Error error);

private:
    struct Step {
        std::string name;
        std::string tail;
    };
    ProgressSink& next_;
    Guarded<std::unordered_map<std::string, Step>> steps_;  // by their digests
};

}  // namespace cooper::buildctl
