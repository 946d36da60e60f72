// mkdir, mkfile, rm and symlink of a FileOp.
#include "codec/path_match.hpp"
#include "layer/copy.hpp"

#include <chrono>

namespace cooper::layer {

namespace {

using snapshot::FollowLast;
using snapshot::Kind;
using snapshot::LayerBuilder;
using snapshot::Meta;
using snapshot::WritableDirRef;

Meta new_meta(std::uint32_t mode, const std::optional<Owner>& owner, const std::optional<std::int64_t>& timestamp_ns) {
    Meta meta{.mode = mode & 0777U, .mtime_ns = timestamp_ns};
    if (owner) {
        meta.uid = owner->uid;
        meta.gid = owner->gid;
    }
    return meta;
}

Error missing(std::string_view path) {
    return fail(Code::not_found, Blame::user, "{}: no such file or directory", path);
}

// The directory of a resolved path, copied up; it must exist.
Result<WritableDirRef> parent_of(LayerBuilder& target, const std::string& resolved) {
    const std::string parent(codec::dir_name(resolved));
    const auto found = TRY(target.view()->find(parent, FollowLast::no));
    if (!found) return missing(parent);
    if (found->node.kind != Kind::directory) return bad_input("{}: not a directory", parent);
    return target.open_dir(parent);
}

Result<> remove_one(LayerBuilder& target, const std::string& path, bool allow_not_found) {
    const std::string clean = codec::clean_path(path);
    const std::string base(codec::base_name(clean));
    if (base == "/" || base == "." || base == "..") return bad_input("invalid empty path to remove: {}", path);
    const snapshot::TreeRef view = target.view();
    const std::string dir = TRY(view->resolve(codec::rooted_path(codec::dir_name(clean))));
    const std::string whole = (dir.size() == 1 ? "" : dir) + "/" + base;
    // Looked up through a last link, so a dangling link counts as missing; yet the link itself is removed.
    if (!allow_not_found && !TRY(view->find(whole, FollowLast::yes))) return missing(whole);
    if (!TRY(view->find(whole, FollowLast::no))) return {};
    const WritableDirRef parent = TRY(target.open_dir(dir));
    return parent->remove(base);
}

}  // namespace

Result<> make_directory(LayerBuilder& target, const MkdirOptions& options) {
    const snapshot::TreeRef view = target.view();
    const std::string path = TRY(view->resolve(codec::rooted_path(options.path)));
    const Meta meta = new_meta(options.mode, options.owner, options.timestamp_ns);
    const auto existing = TRY(view->find(path, FollowLast::no));
    if (options.make_parents) {
        if (existing && existing->node.kind == Kind::directory) return {};
        TRY(target.make_dirs(path, meta, nullptr));
        return {};
    }
    if (existing) return {};
    const WritableDirRef parent = TRY(parent_of(target, path));
    TRY(parent->make_dir(std::string(codec::base_name(path)), meta));
    return {};
}

Result<> make_file(LayerBuilder& target, const MkfileOptions& options) {
    const snapshot::TreeRef view = target.view();
    const std::string path = TRY(view->resolve(codec::rooted_path(options.path)));
    Meta meta = new_meta(options.mode, options.owner, options.timestamp_ns);
    const auto existing = TRY(view->find(path, FollowLast::no));
    if (existing && existing->node.kind == Kind::directory) return bad_input("{}: is a directory", path);
    const WritableDirRef parent = TRY(parent_of(target, path));
    const std::string name(codec::base_name(path));
    if (existing) {
        // Truncated and written anew: what it was stays.
        meta.mode = existing->node.mode;
        if (!options.owner) {
            meta.uid = existing->node.uid;
            meta.gid = existing->node.gid;
        }
        meta.xattrs = TRY(existing->parent->xattrs(existing->name, existing->node));
        TRY(parent->remove(name));
    }
    return parent->put_bytes(name, options.data, meta);
}

Result<> remove(LayerBuilder& target, const RmOptions& options) {
    if (!options.allow_wildcard) return remove_one(target, options.path, options.allow_not_found);
    for (const auto& match : TRY(resolve_wildcards(*target.view(), options.path, FollowLast::no))) {
        TRY(remove_one(target, match, options.allow_not_found));
    }
    return {};
}

Result<> make_symlink(LayerBuilder& target, const SymlinkOptions& options) {
    const std::string path = TRY(target.view()->resolve(codec::rooted_path(options.new_path)));
    if (TRY(target.view()->find(path, FollowLast::no))) {
        return fail(Code::already_exists, Blame::user, "{}: file exists", path);
    }
    const WritableDirRef parent = TRY(parent_of(target, path));
    return parent->put_symlink(std::string(codec::base_name(path)), options.old_path,
                               new_meta(0777, options.owner, options.timestamp_ns));
}

}  // namespace cooper::layer
