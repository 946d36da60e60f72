#include "why/cause.hpp"

#include "base/result.hpp"
#include "base/text.hpp"
#include "codec/rfc3339.hpp"
#include "why/redact.hpp"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace cooper::why {

namespace {

constexpr std::array<std::string_view, 18> kKinds = {
    "unknown", "not-built",  "no-cache", "platform", "instruction", "removed-step", "arg",    "env",    "setting",
    "mount",   "base-image", "source",   "file",     "input",       "builder",      "pruned", "hidden", "unfinished"};

std::string short_digest(const std::string& text) {
    return text.starts_with("sha256:") && text.size() > 19 ? text.substr(0, 19) : text;
}

// "NAME: a → b", or without what may not be shown.
std::string changed(const std::string& what, const Cause& cause) {
    if (is_hidden(cause.before) || is_hidden(cause.after)) return what + " changed (its value is not shown)";
    if (cause.before.empty() && cause.after.empty()) return what + " changed";
    const auto shown = [](const std::string& text) {
        return text.empty() ? std::string("not set") : short_digest(text);
    };
    return fmt::format("{}: {} → {}", what, shown(cause.before), shown(cause.after));
}

std::string file_text(const Cause& cause) {
    std::string text;
    const std::string name = cause.what.empty() ? "files" : cause.what;
    if (cause.change == "added" || cause.change == "removed") {
        text = name + " was " + cause.change;
    } else if (cause.change == "mode" || cause.change == "owner" || cause.change == "type") {
        text = fmt::format("{}: {} {} → {}", name, cause.change, cause.before, cause.after);
    } else if (cause.change == "link") {
        text = name + " is another link";
    } else {
        text = name + " changed";
    }
    if (!cause.where.empty()) text += " in " + cause.where;
    if (cause.others > 0) text += fmt::format(", and {} other file{}", cause.others, cause.others == 1 ? "" : "s");
    return text;
}

std::string unfinished_text(const Cause& cause) {
    if (cause.change == kFailed) return "it failed the last time";
    if (cause.change == kInterrupted) return "it was interrupted the last time";
    if (cause.change != kStopped) return "it has not finished yet";
    return "it was stopped the last time, when another step failed" + (cause.what.empty() ? "" : ": " + cause.what);
}

std::string own_text(const Cause& cause) {
    switch (cause.kind) {
        case CauseKind::unknown:
            return "no reason is known";
        case CauseKind::not_built:
            return cause.what.empty() ? "not built before" : "not built here before, and " + cause.what;
        case CauseKind::no_cache:
            return "the cache was not to be used";
        case CauseKind::platform:
            return changed("platform", cause);
        case CauseKind::instruction:
            if (cause.before.empty()) return "a new instruction";
            if (is_hidden(cause.before) || is_hidden(cause.after)) return "the instruction changed";
            return "the instruction was: " + cause.before;
        case CauseKind::removed_step:
            return "a step before it was removed: " + cause.before;
        case CauseKind::argument:
            return changed("ARG " + cause.what, cause);
        case CauseKind::variable:
            return changed("ENV " + cause.what, cause);
        case CauseKind::setting:
            return changed(cause.what, cause);
        case CauseKind::mount:
            return changed("mount " + cause.what, cause);
        case CauseKind::base_image:
            return changed("base image " + cause.what, cause);
        case CauseKind::source:
            return cause.what + " has changed";
        case CauseKind::file:
            return file_text(cause);
        case CauseKind::input:
            return "another result of " + cause.what;
        case CauseKind::builder:
            return changed("version of cooper", cause);
        case CauseKind::pruned:
            if (!cause.what.empty()) return "nothing changed, but " + cause.what + " does not have its result";
            return "its earlier result was removed from the cache";
        case CauseKind::hidden:
            if (cause.others == 0) return cause.what + " must have changed (its value does not travel)";
            return fmt::format("{} or one of {} other values that do not travel must have changed", cause.what,
                               cause.others);
        case CauseKind::unfinished:
            return unfinished_text(cause);
    }
    UNREACHABLE();
}

// Of a byte sequence of UTF-8 at `at` its length; 0: it is none.
std::size_t rune_length(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
    const std::size_t length = byte(0) >= 0xF0 ? 4 : byte(0) >= 0xE0 ? 3 : byte(0) >= 0xC2 ? 2 : 0;
    if (length == 0 || byte(0) > 0xF4 || at + length > text.size()) return 0;
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xC0U) != 0x80U) return 0;
    }
    return length;
}

// Control bytes, those of C1, and signs that turn the direction of a line.
std::string printable(std::string_view text) {
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
        const auto byte = static_cast<unsigned char>(text[at]);
        if (byte >= 0x20 && byte < 0x7F) {
            out += text[at++];
            continue;
        }
        const std::size_t length = byte < 0x80 ? 0 : rune_length(text, at);
        const std::string_view rune = text.substr(at, length);
        const bool steers = length == 0 || (byte == 0xC2 && static_cast<unsigned char>(rune[1]) < 0xA0) ||
                            (rune >= "\u202A" && rune <= "\u202E") || (rune >= "\u2066" && rune <= "\u2069");
        if (!steers) {
            out += rune;
            at += length;
        } else {
            for (std::size_t i = 0; i < std::max<std::size_t>(length, 1); ++i)
                out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[at + i]));
            at += std::max<std::size_t>(length, 1);
        }
    }
    return out;
}

std::string age(Timestamp made, Timestamp now) {
    const auto minutes = std::chrono::duration_cast<std::chrono::minutes>(now - made).count();
    const auto told = [](std::int64_t count, const char* unit) {
        return fmt::format("made {} {}{} ago", count, unit, count == 1 ? "" : "s");
    };
    if (minutes < 1) return "made just now";
    if (minutes < 60) return told(minutes, "minute");
    if (minutes < 48 * 60) return told(minutes / 60, "hour");
    return told(minutes / (24 * 60), "day");
}

std::string text_field(const nlohmann::json& json, const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

int number_field(const nlohmann::json& json, const char* key) {
    const auto found = json.find(key);
    return found != json.end() && found->is_number_integer() ? found->get<int>() : 0;
}

}  // namespace

std::string_view name_of(CauseKind kind) { return kKinds.at(static_cast<std::size_t>(kind)); }

std::string to_text(const Cause& cause) {
    std::string text = own_text(cause);
    if (!cause.step.empty()) text += fmt::format(" ({})", cause.step);
    return printable(text);
}

std::string to_text(const Miss& miss, Timestamp now) {
    std::string text = to_text(miss.cause);
    // Steps that follow from another one are explained there.
    if (miss.cache.empty() || !miss.cause.step.empty()) return text;
    const auto made = codec::parse_rfc3339(miss.compared_with);
    return fmt::format("{} (cache {}{}{})", text, printable(miss.cache), made ? ", " : "", made ? age(*made, now) : "");
}

std::string to_json(const Miss& miss) {
    nlohmann::ordered_json json;
    json["step"] = miss.step;
    json["stage"] = miss.stage;
    if (miss.number > 0) {
        json["number"] = miss.number;
        json["of"] = miss.count;
    }
    json["instruction"] = miss.instruction;
    nlohmann::ordered_json cause;
    cause["kind"] = name_of(miss.cause.kind);
    const auto add = [&](const char* key, const std::string& value) {
        if (!value.empty()) cause[key] = value;
    };
    add("what", miss.cause.what);
    add("change", miss.cause.change);
    add("before", miss.cause.before);
    add("after", miss.cause.after);
    if (miss.cause.others > 0) cause["others"] = miss.cause.others;
    add("where", miss.cause.where);
    add("step", miss.cause.step);
    json["cause"] = std::move(cause);
    json["text"] = to_text(miss.cause);
    if (!miss.compared_with.empty()) json["comparedWith"] = miss.compared_with;
    if (!miss.cache.empty()) json["cache"] = miss.cache;
    return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::optional<Miss> parse_miss(std::string_view text) {
    const auto json = nlohmann::json::parse(text, nullptr, false);
    if (!json.is_object()) return std::nullopt;
    const auto cause = json.find("cause");
    if (cause == json.end() || !cause->is_object()) return std::nullopt;
    Miss miss;
    miss.step = text_field(json, "step");
    miss.stage = text_field(json, "stage");
    miss.number = number_field(json, "number");
    miss.count = number_field(json, "of");
    miss.instruction = text_field(json, "instruction");
    miss.compared_with = text_field(json, "comparedWith");
    miss.cache = text_field(json, "cache");
    const std::string kind = text_field(*cause, "kind");
    for (std::size_t i = 0; i < kKinds.size(); ++i) {
        if (kKinds.at(i) == kind) miss.cause.kind = static_cast<CauseKind>(i);
    }
    miss.cause.what = text_field(*cause, "what");
    miss.cause.change = text_field(*cause, "change");
    miss.cause.before = text_field(*cause, "before");
    miss.cause.after = text_field(*cause, "after");
    miss.cause.others = static_cast<std::size_t>(std::max(0, number_field(*cause, "others")));
    miss.cause.where = text_field(*cause, "where");
    miss.cause.step = text_field(*cause, "step");
    return miss;
}

Place place_of(std::string_view name) {
    Place place;
    place.text = name;
    if (!name.starts_with('[')) return place;
    const std::size_t end = name.find("] ");
    if (end == std::string_view::npos) return place;
    std::vector<std::string> words = split(name.substr(1, end - 1), ' ');
    place.text = name.substr(end + 2);
    if (const auto [number, count] = cut(words.back(), '/'); count) {
        const auto n = parse_int(number);
        const auto of = parse_int(*count);
        if (n && of && *n > 0 && *of >= *n && *of < 1'000'000) {
            place.number = static_cast<int>(*n);
            place.count = static_cast<int>(*of);
            words.pop_back();
        }
    }
    if (!words.empty() && words.front().find('/') != std::string::npos) {
        place.platform = words.front();
        words.erase(words.begin());
    }
    place.stage = join(words, " ");
    return place;
}

}  // namespace cooper::why
