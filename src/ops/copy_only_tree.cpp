#include "ops/copy_only_tree.hpp"

namespace cooper::ops {

namespace {

using snapshot::Directory;
using snapshot::DirectoryRef;
using snapshot::Entry;
using snapshot::Node;
using snapshot::Xattrs;

class CopyOnlyDirectory final : public Directory {
public:
    explicit CopyOnlyDirectory(DirectoryRef inner) : inner_(std::move(inner)) { self_ = inner_->self(); }
    Result<std::vector<Entry>> list() const override { return inner_->list(); }
    Result<std::optional<Node>> find(const std::string& name) const override { return inner_->find(name); }
    Result<Node> stat(const Entry& entry) const override { return inner_->stat(entry); }
    Result<DirectoryRef> open_dir(const std::string& name) const override {
        return DirectoryRef(std::make_shared<CopyOnlyDirectory>(TRY(inner_->open_dir(name))));
    }
    Result<sys::Fd> open_file(const std::string& name, const Node& node) const override {
        return inner_->open_file(name, node);
    }
    Result<std::string> read_link(const std::string& name, const Node& node) const override {
        return inner_->read_link(name, node);
    }
    Result<Xattrs> xattrs(const std::string& name, const Node& node) const override {
        return inner_->xattrs(name, node);
    }
    Result<Xattrs> self_xattrs() const override { return inner_->self_xattrs(); }
    int link_fd(const Node& /*node*/) const override { return -1; }
    std::uint64_t link_domain(const Node& node) const override { return inner_->link_domain(node); }

private:
    DirectoryRef inner_;
};

class CopyOnlyTree final : public snapshot::Tree {
public:
    explicit CopyOnlyTree(snapshot::TreeRef inner) : inner_(std::move(inner)) {}
    Result<DirectoryRef> root() const override {
        return DirectoryRef(std::make_shared<CopyOnlyDirectory>(TRY(inner_->root())));
    }
    bool immutable() const override { return inner_->immutable(); }

private:
    snapshot::TreeRef inner_;
};

}  // namespace

snapshot::TreeRef copy_only(snapshot::TreeRef tree) { return std::make_shared<CopyOnlyTree>(std::move(tree)); }

}  // namespace cooper::ops
