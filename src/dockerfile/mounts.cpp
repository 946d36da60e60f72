// RUN --mount=… (dockerfile.md §5).
#include "base/text.hpp"
#include "dockerfile/csv.hpp"
#include "dockerfile/instructions.hpp"

#include <algorithm>
#include <array>

namespace cooper::dockerfile {

namespace {

Result<bool> parse_bool(std::string_view key, std::string_view value) {
    static const std::array<std::string_view, 7> kTrue = {"1", "t", "T", "TRUE", "true", "True", ""};
    static const std::array<std::string_view, 6> kFalse = {"0", "f", "F", "FALSE", "false", "False"};
    if (!value.empty() && std::find(kTrue.begin(), kTrue.end(), value) != kTrue.end()) return true;
    if (std::find(kFalse.begin(), kFalse.end(), value) != kFalse.end()) return false;
    return bad_input("invalid value for {}: {}", key, value);
}

// "64m": 1024-based units.
Result<std::int64_t> parse_size(std::string_view text) {
    const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
    const auto number = parse_int(text.substr(0, digits));
    std::string unit = to_lower(trim(text.substr(digits)));
    if (unit.ends_with("ib")) unit.resize(unit.size() - 2);
    if (unit.ends_with("b")) unit.pop_back();
    const std::size_t power = unit.empty() ? 0 : std::string_view(" kmgtp").find(unit);
    if (!number || unit.size() > 1 || power == std::string_view::npos || *number > (std::int64_t{1} << 40)) {
        return bad_input("invalid value for size: {}", text);
    }
    if (power > 2 && *number > (std::int64_t{1} << 20)) return bad_input("invalid value for size: {}", text);
    return *number << (10 * power);
}

Result<MountKind> parse_kind(std::string_view text) {
    static const std::vector<std::string> kNames = {"bind", "cache", "tmpfs", "secret", "ssh"};
    const auto found = std::find(kNames.begin(), kNames.end(), to_lower(text));
    if (found != kNames.end()) return static_cast<MountKind>(found - kNames.begin());
    const auto near = nearest(text, kNames);
    return bad_input("unsupported mount type {}{}", quoted(text), near ? " (did you mean " + *near + "?)" : "");
}

class MountParser {
public:
    MountParser(std::string_view csv, const ExpandValue& expand) : csv_(csv), expand_(expand) {}

    Result<Mount> run() {
        for (const auto& field : TRY(parse_csv_line(csv_))) TRY(take(field));
        return finish();
    }

private:
    Result<> take(const std::string& field) {
        const auto [raw_key, raw_value] = cut(field, '=');
        const std::string key = to_lower(raw_key);
        if (!raw_value) {
            if (key == "readonly" || key == "ro") {
                read_only_ = true;
                return {};
            }
            if (key == "readwrite" || key == "rw") {
                read_only_ = false;
                return {};
            }
            if (key == "required") {
                if (mount_.type != MountKind::secret && mount_.type != MountKind::ssh) return unexpected(key);
                mount_.required = true;
                return {};
            }
            return bad_input("invalid field {} must be a key=value pair", quoted(field));
        }
        std::string value(*raw_value);
        // Checked without expansion first: a stage must be known before anything runs.
        if (key == "from" && value.find('$') != std::string::npos && value.find('$') + 1 != value.size()) {
            return bad_input("'{}' doesn't support variable expansion, define alias stage instead", key);
        }
        if (expand_ && key != "from") value = TRY(expand_(value));
        return set(key, value);
    }

    Result<> set(const std::string& key, const std::string& value) {
        if (key == "type") {
            // At the first reading the value may still hold a variable.
            if (!expand_ && value.find('$') != std::string::npos) return {};
            mount_.type = TRY(parse_kind(value));
        } else if (key == "from") {
            mount_.from = value;
        } else if (key == "source" || key == "src") {
            mount_.source = value;
        } else if (key == "target" || key == "dst" || key == "destination") {
            mount_.target = value;
        } else if (key == "readonly" || key == "ro") {
            if (undecided(value)) return {};
            read_only_ = TRY(parse_bool(key, value));
        } else if (key == "readwrite" || key == "rw") {
            if (undecided(value)) return {};
            read_only_ = !TRY(parse_bool(key, value));
        } else if (key == "required") {
            if (mount_.type != MountKind::secret && mount_.type != MountKind::ssh) return unexpected(key);
            if (undecided(value)) return {};
            mount_.required = TRY(parse_bool(key, value));
        } else if (key == "size") {
            if (mount_.type != MountKind::tmpfs) return unexpected(key);
            if (undecided(value)) return {};
            mount_.size_bytes = TRY(parse_size(value));
        } else if (key == "id") {
            mount_.id = value;
        } else if (key == "sharing") {
            if (undecided(value)) return {};
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
            if (undecided(value)) return {};
            const auto octal = key == "mode" ? parse_octal(value) : std::nullopt;
            const auto decimal = key == "mode" ? std::nullopt : parse_int(value);
            if ((key == "mode" && (!octal || *octal > 07777)) ||
                (key != "mode" && (!decimal || *decimal < 0 || *decimal > 0xFFFFFFFFLL))) {
                return bad_input("invalid value {} for {}", value, key);
            }
            const std::uint64_t number = key == "mode" ? *octal : static_cast<std::uint64_t>(*decimal);
            (key == "mode" ? mount_.mode : key == "uid" ? mount_.uid : mount_.gid) = number;
        } else if (key == "env") {
            mount_.env = value;
        } else {
            return unexpected(key);
        }
        return {};
    }

    [[nodiscard]] bool undecided(const std::string& value) const {
        return !expand_ && value.find('$') != std::string::npos;
    }

    [[nodiscard]] Error unexpected(const std::string& key) const {
        static const std::vector<std::string> kKeys = {
            "type", "from", "source", "target", "readonly",    "id", "sharing", "required",  "size", "mode",
            "uid",  "gid",  "src",    "dst",    "destination", "ro", "rw",      "readwrite", "env"};
        const auto near = nearest(key, kKeys);
        return bad_input("unexpected key '{}' in '{}'{}", key, csv_,
                         near && *near != key ? " (did you mean " + *near + "?)" : "");
    }

    Result<Mount> finish() {
        const MountKind type = mount_.type;
        const bool file_like = type == MountKind::secret || type == MountKind::ssh || type == MountKind::cache;
        if ((mount_.mode || mount_.uid || mount_.gid) && !file_like) {
            return bad_input("{} not allowed for this mount type", mount_.mode ? "mode" : mount_.uid ? "uid" : "gid");
        }
        const bool default_read_only = type == MountKind::bind || type == MountKind::secret || type == MountKind::ssh;
        mount_.readonly = read_only_.value_or(default_read_only);
        if (has_sharing_ && type != MountKind::cache) return bad_input("invalid cache sharing set for this mount");
        if (type == MountKind::secret) {
            if (!mount_.from.empty()) return bad_input("secret mount should not have a from");
            if (mount_.source.empty() && mount_.target.empty() && mount_.id.empty()) {
                return bad_input("invalid secret mount. one of source, target required");
            }
            if (!mount_.source.empty() && !mount_.id.empty()) {
                return bad_input("both source and id can't be set for secret mount");
            }
        }
        const bool needs_target = type == MountKind::bind || type == MountKind::cache || type == MountKind::tmpfs;
        if (needs_target && mount_.target.empty()) {
            return bad_input("mount '{}' needs a target", csv_).with_hint("write --mount=…,target=/path");
        }
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
