// Owners by name, from a tree's /etc/passwd and /etc/group.
#include "base/text.hpp"
#include "layer/copy.hpp"

namespace cooper::layer {

namespace {

constexpr std::size_t kMaxFileBytes = 10UL * 1024 * 1024;

// The fields of the first line whose first field is name; empty when there is none.
Result<std::vector<std::string>> find_line(const snapshot::Tree* tree, const char* file, const std::string& name) {
    if (tree == nullptr) return fail(Code::internal, Blame::cooper, "no tree to look up {} in", quoted(name));
    const auto text = TRY(tree->read_file(file, kMaxFileBytes));
    if (!text) return std::vector<std::string>();
    for (const auto& line : split(*text, '\n')) {
        const std::string_view trimmed = trim(line);
        if (trimmed.empty() || trimmed.starts_with('#')) continue;
        std::vector<std::string> fields = split(trimmed, ':');
        if (fields.front() == name) return fields;
    }
    return std::vector<std::string>();
}

std::uint32_t number(const std::vector<std::string>& fields, std::size_t i) {
    const auto value = i < fields.size() ? parse_int(fields[i]) : std::nullopt;
    return value && *value >= 0 && *value <= UINT32_MAX ? static_cast<std::uint32_t>(*value) : 0;
}

}  // namespace

Result<Owner> look_up_owner(const std::optional<OwnerName>& user, const std::optional<OwnerName>& group,
                            const snapshot::Tree* user_tree, const snapshot::Tree* group_tree) {
    Owner owner;
    if (user && user->id) {
        owner = {.uid = *user->id, .gid = *user->id};
    } else if (user) {
        const auto fields = TRY(find_line(user_tree, "/etc/passwd", user->name));
        owner = {.uid = number(fields, 2), .gid = number(fields, 3)};
    }
    if (group && group->id) {
        owner.gid = *group->id;
    } else if (group) {
        const auto fields = TRY(find_line(group_tree, "/etc/group", group->name));
        if (!fields.empty()) owner.gid = number(fields, 2);
    }
    return owner;
}

}  // namespace cooper::layer
