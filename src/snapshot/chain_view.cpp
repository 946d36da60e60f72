#include "snapshot/chain_view.hpp"

#include "snapshot/dir_entries.hpp"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <unordered_set>

namespace cooper::snapshot {

namespace {

bool is_whiteout(const struct stat& st) { return S_ISCHR(st.st_mode) && st.st_rdev == 0; }

bool is_opaque(int dir_fd) {
    char value = 0;
    return (::fgetxattr(dir_fd, "trusted.overlay.opaque", &value, 1) == 1 && value == 'y') ||
           (::fgetxattr(dir_fd, "user.overlay.opaque", &value, 1) == 1 && value == 'y');
}

Kind kind_of(unsigned char type) {
    switch (type) {
        case DT_DIR:
            return Kind::directory;
        case DT_LNK:
            return Kind::symlink;
        case DT_CHR:
            return Kind::char_device;
        case DT_BLK:
            return Kind::block_device;
        case DT_FIFO:
            return Kind::fifo;
        case DT_SOCK:
            return Kind::socket;
        default:
            return Kind::file;
    }
}

using Layers = std::shared_ptr<const std::vector<LayerDir>>;

// One directory of the merged tree: the layers that contribute to it, top first.
class ChainDirectory final : public Directory {
public:
    struct Part {
        std::uint32_t layer = 0;  // index into the chain, bottom = 0
        sys::Fd fd;
    };
    ChainDirectory(Layers layers, std::vector<Part> parts, Node self, bool top_in_work)
        : layers_(std::move(layers)), parts_(std::move(parts)), top_in_work_(top_in_work) {
        self_ = self;
    }

    [[nodiscard]] Result<std::vector<Entry>> list() const override {
        std::vector<Entry> entries;
        std::unordered_set<std::string> hidden;  // names settled by a layer above, filled only when there are several
        const bool several = parts_.size() > 1;
        for (std::size_t i = 0; i < parts_.size(); ++i) {
            const auto& part = parts_[i];
            std::size_t first = entries.size();
            std::vector<std::string> whiteouts;
            TRY(for_each_name(part.fd.get(), [&](std::string_view name, unsigned char type) {
                std::string owned(name);
                if (type == DT_CHR || type == DT_UNKNOWN) {
                    struct stat st{};
                    if (::fstatat(part.fd.get(), owned.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) return;
                    if (is_whiteout(st)) return whiteouts.push_back(std::move(owned));
                    type = static_cast<unsigned char>(IFTODT(st.st_mode));
                }
                if (several && i > 0 && hidden.contains(owned)) return;
                entries.push_back({std::move(owned), kind_of(type), static_cast<std::uint32_t>(i)});
            }));
            if (several && i + 1 < parts_.size()) {
                for (; first < entries.size(); ++first) hidden.insert(entries[first].name);
                for (auto& name : whiteouts) hidden.insert(std::move(name));
            }
        }
        std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
        return entries;
    }

    [[nodiscard]] Result<std::optional<Node>> find(const std::string& name) const override {
        for (std::size_t i = 0; i < parts_.size(); ++i) {
            struct stat st{};
            if (::fstatat(parts_[i].fd.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
                if (errno == ENOENT) continue;
                if (errno == ENAMETOOLONG) return std::optional<Node>();
                return fail_errno(errno, name);
            }
            if (is_whiteout(st)) return std::optional<Node>();
            return std::optional<Node>(node_at(st, i));
        }
        return std::optional<Node>();
    }

    [[nodiscard]] Result<Node> stat(const Entry& entry) const override {
        struct stat st{};
        if (::fstatat(parts_[entry.origin].fd.get(), entry.name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) {
            return fail_errno(errno, entry.name);
        }
        return node_at(st, entry.origin);
    }

    [[nodiscard]] Result<DirectoryRef> open_dir(const std::string& name) const override {
        std::vector<Part> parts;
        Node self;
        for (std::size_t i = 0; i < parts_.size(); ++i) {
            sys::Fd fd(::openat(parts_[i].fd.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
            if (!fd.valid()) {
                if (errno == ENOENT) continue;
                // A whiteout or any other non-directory ends the merge.
                if (errno == ENOTDIR || errno == ELOOP) break;
                return fail_errno(errno, name);
            }
            if (parts.empty()) {
                struct stat st{};
                if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, name);
                self = node_at(st, i);
            }
            const bool opaque = i + 1 < parts_.size() && is_opaque(fd.get());
            parts.push_back({parts_[i].layer, std::move(fd)});
            if (opaque) break;
        }
        if (parts.empty()) return fail_errno(ENOTDIR, name);
        self.origin = 0;
        return DirectoryRef(std::make_shared<ChainDirectory>(layers_, std::move(parts), self, top_in_work_));
    }

    [[nodiscard]] Result<sys::Fd> open_file(const std::string& name, const Node& node) const override {
        // NONBLOCK: should a fifo have taken the file's place, the open does not hang.
        sys::Fd fd(::openat(parts_[node.origin].fd.get(), name.c_str(),
                            O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
        if (!fd.valid()) return fail_errno(errno, name);
        return fd;
    }

    [[nodiscard]] Result<std::string> read_link(const std::string& name, const Node& node) const override {
        std::string target(4096, '\0');
        const ssize_t size = ::readlinkat(parts_[node.origin].fd.get(), name.c_str(), target.data(), target.size());
        if (size < 0) return fail_errno(errno, name);
        target.resize(static_cast<std::size_t>(size));
        return target;
    }

    [[nodiscard]] Result<Xattrs> xattrs(const std::string& name, const Node& node) const override {
        return read_xattrs_at(parts_[node.origin].fd.get(), name);
    }
    [[nodiscard]] Result<Xattrs> self_xattrs() const override { return read_xattrs(parts_.front().fd.get()); }

    [[nodiscard]] int link_fd(const Node& node) const override {
        const Part& part = parts_[node.origin];
        if (top_in_work_ && part.layer + 1 == layers_->size()) return -1;
        return part.fd.get();
    }
    [[nodiscard]] std::uint64_t link_domain(const Node& node) const override {
        return static_cast<std::uint64_t>((*layers_)[parts_[node.origin].layer].id) + 1;
    }

private:
    static Node node_at(const struct stat& st, std::size_t part) {
        Node node = node_from_stat(st);
        node.origin = static_cast<std::uint32_t>(part);
        return node;
    }

    Layers layers_;
    std::vector<Part> parts_;
    bool top_in_work_;
};

}  // namespace

ChainView::ChainView(std::shared_ptr<const std::vector<LayerDir>> layers, TopLayer top)
    : layers_(std::move(layers)), top_(top) {}

Result<std::shared_ptr<const ChainView>> ChainView::create(std::vector<LayerDir> layers, TopLayer top) {
    for (const auto& layer : layers) {
        if (!layer.dir.valid()) return fail(Code::internal, Blame::cooper, "layer {} has no directory", layer.id);
    }
    auto shared = std::make_shared<const std::vector<LayerDir>>(std::move(layers));
    return std::shared_ptr<const ChainView>(new ChainView(std::move(shared), top));
}

Result<DirectoryRef> ChainView::root() const {
    if (layers_->empty()) return empty_tree()->root();
    std::vector<ChainDirectory::Part> parts;
    Node self;
    for (std::size_t i = layers_->size(); i-- > 0;) {
        const int layer_fd = (*layers_)[i].dir.fd();
        sys::Fd fd(::openat(layer_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        if (!fd.valid()) return fail_errno(errno, "open layer");
        if (parts.empty()) {
            struct stat st{};
            if (::fstat(fd.get(), &st) != 0) return fail_errno(errno, "open layer");
            self = node_from_stat(st);
        }
        const bool opaque = i > 0 && is_opaque(fd.get());
        parts.push_back({static_cast<std::uint32_t>(i), std::move(fd)});
        if (opaque) break;
    }
    return DirectoryRef(std::make_shared<ChainDirectory>(layers_, std::move(parts), self, top_ == TopLayer::in_work));
}

Result<std::vector<LayerDir>> open_layers(const std::vector<std::pair<std::int64_t, std::string>>& paths) {
    std::vector<LayerDir> layers;
    for (const auto& [id, path] : paths) {
        LayerDir layer;
        layer.id = id;
        layer.dir = TRY_CONTEXT(sys::RootedDir::open_host(path), "open layer {}", id);
        layers.push_back(std::move(layer));
    }
    return layers;
}

}  // namespace cooper::snapshot
