#include "ops/unpack.hpp"

#include "base/text.hpp"
#include "layer/archive.hpp"
#include "layer/late_links.hpp"

#include <fcntl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

namespace cooper::ops {

namespace {

using snapshot::Kind;
using snapshot::LayerBuilder;
using snapshot::Meta;
using snapshot::WritableDir;
using snapshot::WritableDirRef;

// Writes the entries of an archive below a destination. Links inside the tree are followed for parent
// directories, as a chroot would, and never lead outside it.
class LayerSink final : public layer::ArchiveSink {
public:
    LayerSink(LayerBuilder& target, std::string destination, std::optional<layer::Owner> owner)
        : target_(target),
          destination_(std::move(destination)),
          owner_(owner),
          late_links_("archive", [this](const std::string& at) { return find_late(at); }) {}

    Result<> directory(const std::string& path, const layer::ArchiveMetadata& metadata) override {
        if (path == "/") return {};  // the destination keeps its own metadata
        const auto [parent, name] = TRY(place(path));
        if (const auto present = TRY(parent->find(name))) {
            if (present->kind == Kind::directory) {
                const WritableDirRef dir = TRY(parent->open_dir(name));
                return dir->set_meta(meta_of(metadata));
            }
            TRY(parent->remove(name));
        }
        TRY(parent->make_dir(name, meta_of(metadata)));
        return {};
    }

    Result<> file(const std::string& path, const layer::ArchiveMetadata& metadata, std::uint64_t size,
                  ByteSource& body) override {
        const auto [parent, name] = TRY(free_place(path));
        return parent->put_stream(name, body, size, meta_of(metadata));
    }

    Result<> symlink(const std::string& path, const std::string& link,
                     const layer::ArchiveMetadata& metadata) override {
        const auto [parent, name] = TRY(free_place(path));
        return parent->put_symlink(name, link, meta_of(metadata));
    }

    Result<> hard_link(const std::string& path, const std::string& link,
                       const layer::ArchiveMetadata& /*metadata*/) override {
        const auto from = TRY(target_.view()->find(destination_ + link, snapshot::FollowLast::no));
        if (!from || TRY(is_late(*from))) return late_link(path, link);
        if (from->node.kind == Kind::directory) return bad_input("hard link to the directory {}", quoted(link));
        Place at = TRY(place(path));
        const WritableDirRef link_parent = TRY(target_.open_dir(parent_of(from->path)));
        const std::string own = below(*at.parent, at.name);
        if (from->path == own) return {};
        if (from->path.starts_with(own + "/")) return bad_input("hard link to {}, which it replaces", quoted(link));
        at = TRY(free_place(path));
        return at.parent->put_hard_link(at.name, *link_parent, from->name);
    }

    Result<> device(const std::string& path, layer::DeviceKind kind, std::uint32_t major, std::uint32_t minor,
                    const layer::ArchiveMetadata& metadata) override {
        const auto [parent, name] = TRY(free_place(path));
        const Kind as = kind == layer::DeviceKind::fifo        ? Kind::fifo
                        : kind == layer::DeviceKind::character ? Kind::char_device
                                                               : Kind::block_device;
        return parent->put_special(name, as, makedev(major, minor), meta_of(metadata));
    }

    // When the archive has ended.
    Result<> finish(const Stop& stop) { return late_links_.resolve(stop); }

private:
    struct Place {
        WritableDirRef parent;
        std::string name;
    };

    [[nodiscard]] Meta meta_of(const layer::ArchiveMetadata& metadata) const {
        Meta meta;
        meta.uid = owner_ ? owner_->uid : metadata.uid;
        meta.gid = owner_ ? owner_->gid : metadata.gid;
        meta.mode = metadata.mode;
        meta.mtime_ns = metadata.mtime_ns;
        meta.xattrs.assign(metadata.xattrs.begin(), metadata.xattrs.end());
        return meta;
    }

    Result<Place> place(const std::string& path) {
        const std::size_t slash = path.rfind('/');
        const std::string dir = path.substr(0, slash);
        if (last_parent_ == nullptr || dir != last_dir_) {
            const std::string resolved = TRY(target_.view()->resolve(destination_ + dir));
            Meta made;
            if (owner_) {
                made.uid = owner_->uid;
                made.gid = owner_->gid;
            }
            last_parent_ = TRY(target_.make_dirs(resolved, made, nullptr));
            last_dir_ = dir;
        }
        return Place{last_parent_, path.substr(slash + 1)};
    }

    // The same, with nothing of that name left there.
    Result<Place> free_place(const std::string& path) {
        Place at = TRY(place(path));
        if (const auto present = TRY(at.parent->find(at.name))) {
            TRY(at.parent->remove(at.name));
            if (present->kind == Kind::directory || present->kind == Kind::symlink) last_parent_ = nullptr;
        }
        return at;
    }

    static std::string below(const WritableDir& dir, const std::string& name) {
        return (dir.path() == "/" ? "" : dir.path()) + "/" + name;
    }
    static std::string parent_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

    Result<bool> is_late(const snapshot::Found& found) {
        if (found.node.kind != Kind::file) return false;
        const WritableDirRef dir = TRY(target_.open_dir(parent_of(found.path)));
        struct stat there{};
        return ::fstatat(dir->fd(), found.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
               late_links_.is_placeholder(dir->fd(), found.name, there);
    }

    // What the link is to name may still come.
    Result<> late_link(const std::string& path, const std::string& link) {
        const auto [parent, name] = TRY(free_place(path));
        const std::string content = TRY(late_links_.next_placeholder());
        TRY(parent->put_bytes(name, content, Meta{.mode = 0600}));
        return late_links_.add(below(*parent, name), destination_ + link);
    }

    // For the links that were late. What names one lies in the layer: what only lies below was there all the time.
    Result<layer::LateLinks::Place> find_late(const std::string& path) {
        const auto found = TRY(target_.view()->find(path, snapshot::FollowLast::no));
        if (!found) return fail(Code::not_found, Blame::user, "{} is not there", quoted(path));
        const WritableDirRef dir = TRY(target_.open_dir(parent_of(found->path)));
        if (found->node.kind != Kind::directory) TRY(dir->copy_up(found->name));
        sys::Fd again(::fcntl(dir->fd(), F_DUPFD_CLOEXEC, 3));
        if (!again.valid()) return fail_errno(errno, "duplicate descriptor");
        return layer::LateLinks::Place{std::move(again), found->name.empty() ? "." : found->name};
    }

    LayerBuilder& target_;
    std::string destination_;
    std::optional<layer::Owner> owner_;
    std::string last_dir_;
    WritableDirRef last_parent_;
    layer::LateLinks late_links_;
};

}  // namespace

Result<bool> unpack_if_archive(const snapshot::Tree& source, const std::string& path, const std::string& destination,
                               const std::optional<layer::Owner>& owner, LayerBuilder& target, Stop stop) {
    const auto found = TRY(source.find(path, snapshot::FollowLast::yes));
    if (!found || found->node.kind != Kind::file) return false;
    sys::Fd file = TRY(found->parent->open_file(found->name, found->node));
    if (!TRY(layer::detect_archive(file.get()))) return false;
    std::string below = destination;
    while (below.ends_with('/')) below.pop_back();
    LayerSink sink(target, below, owner);
    // The destination exists even when the archive is empty.
    Meta made;
    if (owner) {
        made.uid = owner->uid;
        made.gid = owner->gid;
    }
    TRY(target.make_dirs(TRY(target.view()->resolve(below.empty() ? "/" : below)), made, nullptr));
    TRY_CONTEXT(
        layer::extract_archive(std::make_unique<sys::FdSource>(std::move(file)), sink, layer::ArchiveLimits{}, stop),
        "unpack {}", path);
    TRY_CONTEXT(sink.finish(stop), "unpack {}", path);
    return true;
}

}  // namespace cooper::ops
