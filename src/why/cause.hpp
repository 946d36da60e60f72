// Cause: the one reason why a step ran. A value; texts are made here, so that the display, `cooper why` and
// --expect-cached say the same.
#pragma once

#include "base/clock.hpp"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace cooper::why {

// Names as they are in JSON, docs/cache.md.
enum class CauseKind : std::uint8_t {
    unknown,
    not_built,  // there is no earlier record; `what`: why a cache has none
    no_cache,   // asked for
    platform,
    instruction,   // its text
    removed_step,  // an instruction that was before it is gone
    argument,      // ARG
    variable,      // ENV
    setting,       // user, directory, network, …: `what` says which
    mount,
    base_image,
    source,  // git or http
    file,
    input,    // another result of the step before, and nobody remembers why
    builder,  // another version of cooper
    pruned,
    hidden,      // only a value that a cache does not keep can be another one
    unfinished,  // it ran and gave nothing; `change`: how that ended, `what`: the step that failed
};
[[nodiscard]] std::string_view name_of(CauseKind kind);

struct Cause {
    CauseKind kind = CauseKind::unknown;
    std::string what;    // the file, ARG, mount, image, …
    std::string change;  // of a file: content, mode, owner, link, type, added, removed
    std::string before;  // when there is something to show
    std::string after;
    std::size_t others = 0;  // further files that changed
    std::string where;       // the context or the step that the file belongs to; empty = the build context
    std::string step;        // the step that missed by itself; empty = this one

    friend bool operator==(const Cause&, const Cause&) = default;
};

// How a run that gave nothing ended; values of Ingredients::ending, and of `change` of a Cause.
inline constexpr std::string_view kBegun = "begun";  // nobody has said: the program was killed, or it runs still
inline constexpr std::string_view kFailed = "failed";
inline constexpr std::string_view kInterrupted = "interrupted";
inline constexpr std::string_view kStopped = "stopped";  // since another step had failed

// "src/app.py changed", "ARG VERSION: 1 → 2", "src/app.py changed, in [2/3] COPY . .". Bytes that steer a terminal are
// escaped: parts come from files and from records that others have written.
[[nodiscard]] std::string to_text(const Cause& cause);

// A step that ran, and why.
struct Miss {
    std::string step;  // "[builder 3/8] RUN make"
    std::string stage;
    int number = 0;  // 3; 0 = not numbered
    int count = 0;   // 8
    std::string instruction;
    Cause cause;
    std::string compared_with;  // when that record was made, RFC 3339; empty = with none
    std::string cache;          // the cache that it came with; empty = it was made here
};
// The cause, and behind it the cache that says so: "a changed (cache registry.example/app:cache, made 2 hours ago)".
[[nodiscard]] std::string to_text(const Miss& miss, Timestamp now);
[[nodiscard]] std::string to_json(const Miss& miss);
// nullopt: it is none.
[[nodiscard]] std::optional<Miss> parse_miss(std::string_view json);

// The place of a step from its name: "[linux/arm64 builder 3/8] RUN make".
struct Place {
    std::string platform;
    std::string stage;
    int number = 0;
    int count = 0;
    std::string text;  // "RUN make"
};
[[nodiscard]] Place place_of(std::string_view name);

}  // namespace cooper::why
