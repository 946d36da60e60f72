// RUN --mount=….
#include "base/text.hpp"
#include "dockerfile/csv.hpp"
#include "dockerfile/instructions.hpp"

#include <algorithm>
#include <array>
#include <charconv>

namespace cooper::dockerfile {

namespace {

Result<bool> parse_bool(std::string_view key, std::string_view value) {
    static const std::array<std::string_view, 6> kTrue = {"1", "t", "T", "TRUE", "true", "True"};
    static const std::array<std::string_view, 6> kFalse = {"0", "f", "F", "FALSE", "false", "False"};
    if (std::find(kTrue.begin(), kTrue.end(), value) != kTrue.end()) return true;
    if (std::find(kFalse.begin(), kFalse.end(), value) != kFalse.end()) return false;
    return bad_input("invalid value for {}: {}", key, value);
}

constexpr double kMaxSize = 9e18;

std::optional<double> parse_decimal(std::string_view text) {
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
    if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > kMaxSize) return std::nullopt;
    return value;
}

// "64m", "1.5g", "512 KiB": 1024-based units.
Result<std::int64_t> parse_size(std::string_view text) {
    const Error wrong = bad_input("invalid value for size: {}", text).with_hint("write a number with a unit: 64m, 1g");
    const std::size_t end = std::min(text.find_first_not_of("0123456789."), text.size());
    std::string_view suffix = text.substr(end);
    if (suffix.starts_with(' ')) suffix.remove_prefix(1);
    const std::string unit = to_lower(suffix);
    const auto number = parse_decimal(text.substr(0, end));
    if (!number || unit.size() > 3) return wrong;
    if (unit.empty() || unit == "b") return static_cast<std::int64_t>(*number);
    const std::size_t power = std::string_view("kmgtp").find(unit[0]);
    const std::string rest = unit.substr(1);
    if (power == std::string_view::npos || (!rest.empty() && rest != "b" && rest != "ib")) return wrong;
    const double bytes = *number * static_cast<double>(std::int64_t{1} << (10 * (power + 1)));
    if (bytes > kMaxSize) return wrong;
    return static_cast<std::int64_t>(bytes);
}

// In the order of MountKind.
const std::vector<std::string>& kind_names() {
    static const std::vector<std::string> kNames = {"bind", "cache", "tmpfs", "secret", "ssh"};
    return kNames;
}

Result<MountKind> parse_kind(std::string_view text) {
    const auto& names = kind_names();
    const auto found = std::ranges::find(names, to_lower(text));
    if (found != names.end()) return static_cast<MountKind>(found - names.begin());
    const auto near = nearest(to_lower(text), names);
    return bad_input("unsupported mount type {}{}", quoted(text), near ? " (did you mean " + *near + "?)" : "");
}

class MountParser {
public:
    MountParser(std::string_view csv, const ExpandValue& expand) : csv_(csv), expand_(expand) {}

    Result<Mount> run() {
        if (csv_.empty())
            return bad_input("failed to parse csv mounts: there is nothing")
                .with_hint("write --mount=type=…,target=/path");
        for (const auto& field : TRY(parse_csv_line(csv_))) TRY(take(field));
        return finish();
    }

private:
    Result<> take(const std::string& field) {
        const auto [raw_key, raw_value] = cut(field, '=');
        const std::string key = to_lower(raw_key);
        if (!expand_) return take_early(key, raw_value);
        if (!raw_value) return take_bare(key, field);
        return set(key, TRY(expand_(*raw_value)), field);
    }

    // A stage must be known before anything runs.
    Result<> take_early(const std::string& key, std::optional<std::string_view> value) {
        if (key != "from" || !value) return {};
        const std::size_t dollar = value->find('$');
        if (dollar != std::string_view::npos && dollar + 1 != value->size()) {
            return bad_input("'{}' doesn't support variable expansion, define alias stage instead", key);
        }
        mount_.from = *value;
        return {};
    }

    Result<> take_bare(const std::string& key, const std::string& field) {
        if (key == "readonly" || key == "ro") {
            read_only_ = true;
        } else if (key == "readwrite" || key == "rw") {
            read_only_ = false;
        } else if (key == "required") {
            if (mount_.type != MountKind::secret && mount_.type != MountKind::ssh) return not_for_type(key);
            mount_.required = true;
        } else {
            return bad_input("invalid field '{}' must be a key=value pair", field);
        }
        return {};
    }

    [[nodiscard]] Error not_for_type(const std::string& key) const {
        return bad_input("unexpected key '{}' for mount type '{}'", key,
                         kind_names()[static_cast<std::size_t>(mount_.type)])
            .with_hint("type= must come before what belongs to a type");
    }

    Result<> set(const std::string& key, const std::string& value, const std::string& field) {
        if (key == "type") {
            mount_.type = TRY(parse_kind(value));
        } else if (key == "from") {
            mount_.from = value;
        } else if (key == "source" || key == "src") {
            mount_.source = value;
        } else if (key == "target" || key == "dst" || key == "destination") {
            mount_.target = value;
        } else if (key == "readonly" || key == "ro") {
            read_only_ = TRY(parse_bool(key, value));
        } else if (key == "readwrite" || key == "rw") {
            read_only_ = !TRY(parse_bool(key, value));
        } else if (key == "required") {
            if (mount_.type != MountKind::secret && mount_.type != MountKind::ssh) return not_for_type(key);
            mount_.required = TRY(parse_bool(key, value));
        } else if (key == "size") {
            if (mount_.type != MountKind::tmpfs) return not_for_type(key);
            mount_.size_bytes = TRY(parse_size(value));
        } else if (key == "id") {
            mount_.id = value;
        } else if (key == "sharing") {
            has_sharing_ = true;
            const std::string lower = to_lower(value);
            if (lower != "shared" && lower != "private" && lower != "locked") {
                const auto near = nearest(lower, {"shared", "private", "locked"});
                return bad_input("unsupported sharing value {}{}", quoted(value),
                                 near ? " (did you mean " + *near + "?)" : "");
            }
            mount_.sharing = lower == "shared"    ? MountSharing::shared
                             : lower == "private" ? MountSharing::private_
                                                  : MountSharing::locked;
        } else if (key == "mode" || key == "uid" || key == "gid") {
            const auto octal = key == "mode" ? parse_octal(value) : std::nullopt;
            const auto decimal = key == "mode" ? std::nullopt : parse_int(value);
            if ((key == "mode" && (!octal || *octal > 0xFFFFFFFFULL)) ||
                (key != "mode" && (!decimal || *decimal < 0 || *decimal > 0xFFFFFFFFLL))) {
                return bad_input("invalid value {} for {}", value, key);
            }
            const std::uint64_t number = key == "mode" ? *octal : static_cast<std::uint64_t>(*decimal);
            (key == "mode" ? mount_.mode : key == "uid" ? mount_.uid : mount_.gid) = number;
        } else if (key == "env") {
            mount_.env = value;
        } else {
            return unexpected(key, field);
        }
        return {};
    }

    [[nodiscard]] static Error unexpected(const std::string& key, const std::string& field) {
        static const std::vector<std::string> kKeys = {
            "type", "from", "source", "target", "readonly",    "id", "sharing", "required",  "size", "mode",
            "uid",  "gid",  "src",    "dst",    "destination", "ro", "rw",      "readwrite", "env"};
        const auto near = nearest(key, kKeys);
        return bad_input("unexpected key '{}' in '{}'{}", key, field,
                         near && *near != key ? " (did you mean " + *near + "?)" : "");
    }

    Result<Mount> finish() {
        if (!expand_) return mount_;
        const MountKind type = mount_.type;
        const std::string& name = kind_names()[static_cast<std::size_t>(type)];
        const bool file_like = type == MountKind::secret || type == MountKind::ssh || type == MountKind::cache;
        if ((mount_.mode || mount_.uid || mount_.gid) && !file_like) {
            return bad_input("{} not allowed for \"{}\" type mounts",
                             mount_.mode  ? "mode"
                             : mount_.uid ? "uid"
                                          : "gid",
                             name);
        }
        const bool default_read_only = type == MountKind::bind || type == MountKind::secret || type == MountKind::ssh;
        mount_.readonly = read_only_.value_or(default_read_only);
        if (type == MountKind::secret) {
            if (!mount_.from.empty()) return bad_input("secret mount should not have a from");
            if (has_sharing_) return bad_input("secret mount should not define sharing");
            if (mount_.source.empty() && mount_.target.empty() && mount_.id.empty()) {
                return bad_input("invalid secret mount. one of source, target required");
            }
            if (!mount_.source.empty() && !mount_.id.empty()) {
                return bad_input("both source and id can't be set");
            }
        }
        if (has_sharing_ && type != MountKind::cache) return bad_input("invalid cache sharing set for {} mount", name);
        return mount_;
    }

    std::string_view csv_;
    const ExpandValue& expand_;
    Mount mount_;
    std::optional<bool> read_only_;
    bool has_sharing_ = false;
};

}  // namespace

Result<Mount> parse_mount(std::string_view csv, const ExpandValue& expand) { return MountParser(csv, expand).run(); }

std::vector<std::string> mount_sources(const RunCommand& run) {
    std::vector<std::string> sources;
    for (const auto& flag : run.mount_flags) {
        const auto mount = parse_mount(flag, nullptr);
        sources.push_back(mount ? mount->from : std::string());
    }
    return sources;
}

}  // namespace cooper::dockerfile
