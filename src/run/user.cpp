#include "run/user.hpp"

#include "base/text.hpp"

#include <algorithm>
#include <optional>
#include <string>

namespace cooper::run {
namespace {

constexpr std::size_t kMaxFileBytes = 16 << 20;
constexpr std::int64_t kMaxId = 2147483647;

struct PasswdEntry {
    std::string name;
    uid_t uid;
    gid_t gid;
};
struct GroupEntry {
    std::string name;
    gid_t gid;
    std::vector<std::string> members;
};

std::optional<std::uint32_t> parse_id(std::string_view text) {
    const auto number = parse_int(text);
    if (!number || *number < 0 || *number > kMaxId) return std::nullopt;
    return static_cast<std::uint32_t>(*number);
}

Result<std::vector<std::vector<std::string>>> read_table(const sys::RootedDir& root, std::string_view path) {
    std::vector<std::vector<std::string>> rows;
    const auto text = root.read_file(path, kMaxFileBytes);
    if (!text) {
        if (text.error().code() == Code::not_found) return rows;
        return text.error().with_context(fmt::format("read {} of the image", path));
    }
    for (const std::string& line : split(*text, '\n')) {
        if (!trim(line).empty()) rows.push_back(split(trim(line), ':'));
    }
    return rows;
}

Result<std::vector<PasswdEntry>> read_passwd(const sys::RootedDir& root) {
    std::vector<PasswdEntry> entries;
    for (const auto& row : TRY(read_table(root, "/etc/passwd"))) {
        if (row.size() < 4) continue;
        const auto uid = parse_id(row[2]);
        const auto gid = parse_id(row[3]);
        if (uid && gid) entries.push_back({row[0], *uid, *gid});
    }
    return entries;
}

Result<std::vector<GroupEntry>> read_group(const sys::RootedDir& root) {
    std::vector<GroupEntry> entries;
    for (const auto& row : TRY(read_table(root, "/etc/group"))) {
        if (row.size() < 3) continue;
        const auto gid = parse_id(row[2]);
        if (gid) entries.push_back({row[0], *gid, row.size() > 3 ? split(row[3], ',') : std::vector<std::string>()});
    }
    return entries;
}

Error unknown(std::string_view what, std::string_view name, std::string_view file) {
    return fail(Code::invalid_argument, Blame::user, "unable to find {} {}: no matching entry in {}", what, name, file)
        .with_hint(fmt::format("create the {} in the image first, or give a number", what));
}

}  // namespace

Result<UserIds> resolve_user(const sys::RootedDir& root, std::string_view user) {
    if (user.empty()) return UserIds{};
    const auto [name, group] = cut(user, ':');
    const auto uid = parse_id(name);
    const auto gid = group ? parse_id(*group) : std::nullopt;
    if (uid && gid) return UserIds{*uid, *gid, {}};

    UserIds ids;
    const std::vector<PasswdEntry> users = TRY(read_passwd(root));
    const auto entry = std::find_if(users.begin(), users.end(), [&](const PasswdEntry& candidate) {
        return candidate.name == name || (uid && candidate.uid == *uid);
    });
    if (entry != users.end()) {
        ids.uid = entry->uid;
        ids.gid = entry->gid;
    } else if (uid) {
        ids.uid = *uid;
    } else if (!name.empty()) {
        return unknown("user", name, "passwd file");
    }

    const std::vector<GroupEntry> groups = TRY(read_group(root));
    if (group && !group->empty()) {
        const auto found = std::find_if(groups.begin(), groups.end(), [&](const GroupEntry& candidate) {
            return candidate.name == *group || (gid && candidate.gid == *gid);
        });
        if (found != groups.end()) {
            ids.gid = found->gid;
        } else if (gid) {
            ids.gid = *gid;
        } else {
            return unknown("group", *group, "group file");
        }
        return ids;  // an explicit group replaces the memberships
    }
    if (entry == users.end()) return ids;
    for (const GroupEntry& candidate : groups) {
        const auto& members = candidate.members;
        if (std::find(members.begin(), members.end(), entry->name) != members.end())
            ids.groups.push_back(candidate.gid);
    }
    return ids;
}

Result<std::string> home_of(const sys::RootedDir& root, uid_t uid) {
    for (const auto& row : TRY(read_table(root, "/etc/passwd"))) {
        if (row.size() > 5 && parse_id(row[2]) == uid && !row[5].empty()) return row[5];
    }
    return std::string("/");
}

}  // namespace cooper::run
