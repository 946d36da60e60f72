// Progress as one JSON object per line, the form of BuildKit's --progress=rawjson: each is a status
// response with vertexes, statuses, logs (data in base64) or warnings.
#pragma once

#include "base/guarded.hpp"
#include "base/progress.hpp"

namespace cooper::cli {

class RawJsonProgress final : public ProgressSink {
public:
    explicit RawJsonProgress(int fd) : fd_(fd) {}
    void emit(ProgressEvent event) override;
    void finish() {}

private:
    int fd_;
    struct Nothing {};
    Guarded<Nothing> order_;  // lines are written whole, one after the other
};

}  // namespace cooper::cli
