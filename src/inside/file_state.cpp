#include "inside/file_state.hpp"

#include "base/text.hpp"
#include "inside/shown.hpp"

#include <fmt/format.h>
#include <vector>

namespace cooper::inside {

FileState state_of(const Entry& entry, const Listing& layer) {
    FileState state{.kind = entry.kind,
                    .mode = entry.mode,
                    .uid = entry.uid,
                    .gid = entry.gid,
                    .size = entry.size,
                    .mtime_s = entry.mtime_s};
    if (entry.kind == Kind::symlink) state.target = layer.target_of(entry);
    return state;
}

std::string described(const FileState& state) {
    std::string text = fmt::format("{} {} {}:{}", kind_name(state.kind), mode_shown(state.mode), state.uid, state.gid);
    if (state.kind == Kind::file) text += " " + human_size(state.size);
    if (state.kind == Kind::symlink) text += " to " + shown(state.target);
    return text;
}

std::string size_step(std::uint64_t before, std::uint64_t after) {
    const char* sign = after >= before ? "+" : "-";
    return fmt::format("{} → {} ({}{})", human_size(before), human_size(after), sign,
                       human_size(after >= before ? after - before : before - after));
}

std::string change_text(const FileState& before, const FileState& after, const Delta& delta) {
    std::vector<std::string> parts;
    if (delta.kind) {
        parts.push_back(fmt::format("{} → {}", kind_name(before.kind), kind_name(after.kind)));
    } else if (delta.content && after.kind == Kind::symlink) {
        parts.push_back(fmt::format("target {} → {}", shown(before.target), shown(after.target)));
    } else if (delta.content) {
        parts.push_back(before.size == after.size ? "content, of the same size"
                                                  : "content " + size_step(before.size, after.size));
    }
    if (delta.mode) parts.push_back(fmt::format("mode {} → {}", mode_shown(before.mode), mode_shown(after.mode)));
    if (delta.owner) {
        parts.push_back(fmt::format("owner {}:{} → {}:{}", before.uid, before.gid, after.uid, after.gid));
    }
    if (delta.xattrs) parts.emplace_back("extended attributes");
    if (delta.only_time()) parts.emplace_back("time");
    return join(parts, ", ");
}

void put_state(codec::GoJson& json, const FileState& state) {
    json.begin_object().field("type", kind_name(state.kind)).field("mode", mode_shown(state.mode));
    json.key("uid").unsigned_integer(state.uid).key("gid").unsigned_integer(state.gid);
    if (state.kind == Kind::file) json.key("size").unsigned_integer(state.size);
    json.key("mtime").integer(state.mtime_s);
    if (state.kind == Kind::symlink) json.field("target", state.target);
    json.end_object();
}

}  // namespace cooper::inside
