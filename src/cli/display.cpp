#include "base/text.hpp"
#include "cli/command.hpp"
#include "cli/progress_plain.hpp"
#include "cli/progress_raw_json.hpp"
#include "cli/progress_tty.hpp"

#include <cstdlib>
#include <unistd.h>

namespace cooper::cli {

namespace {

template <class Progress>
class DisplayOf final : public Display {
public:
    template <class... Args>
    explicit DisplayOf(Args... args) : progress_(args...) {}
    ProgressSink& sink() override { return progress_; }
    void finish() override { progress_.finish(); }

private:
    Progress progress_;
};

class QuietDisplay final : public Display {
public:
    ProgressSink& sink() override { return sink_; }
    void finish() override {}

private:
    NullProgress sink_;
};

bool is_set(const char* name) {
    const char* value = std::getenv(name);
    return value != nullptr && *value != '\0';
}

bool is_utf8_locale() {
    for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
        if (!is_set(name)) continue;
        const std::string value = to_lower(std::getenv(name));
        return value.find("utf-8") != std::string::npos || value.find("utf8") != std::string::npos;
    }
    return false;
}

bool is_terminal() {
    const char* term = std::getenv("TERM");
    return ::isatty(STDERR_FILENO) == 1 && term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

}  // namespace

Result<ProgressMode> parse_progress_mode(const std::string& text) {
    if (text.empty() || text == "auto") return ProgressMode::automatic;
    if (text == "tty") return ProgressMode::tty;
    if (text == "plain") return ProgressMode::plain;
    if (text == "quiet" || text == "none") return ProgressMode::quiet;
    if (text == "rawjson") return ProgressMode::rawjson;
    return bad_input("--progress {}: want auto, tty, plain, quiet or rawjson", quoted(text));
}

std::unique_ptr<Display> make_display(ProgressMode mode) {
    if (mode == ProgressMode::automatic) mode = is_terminal() ? ProgressMode::tty : ProgressMode::plain;
    switch (mode) {
        case ProgressMode::tty:
            return std::make_unique<DisplayOf<TtyProgress>>(
                STDERR_FILENO, TerminalStyle{.color = !is_set("NO_COLOR"), .unicode = is_utf8_locale()});
        case ProgressMode::rawjson:
            return std::make_unique<DisplayOf<RawJsonProgress>>(STDERR_FILENO);
        case ProgressMode::quiet:
            return std::make_unique<QuietDisplay>();
        case ProgressMode::plain:
        case ProgressMode::automatic:
            break;
    }
    return std::make_unique<DisplayOf<PlainProgress>>(STDERR_FILENO);
}

}  // namespace cooper::cli
