// ChainView: the merged tree of a chain of layer directories in overlayfs "upper" format, read without mounting:
// whiteouts (character device 0:0), opaque directories (trusted.overlay.opaque=y or user.overlay.opaque=y), upper
// non-directories hide lower directories. See Documentation/filesystems/overlayfs.rst.
#pragma once

#include "snapshot/tree.hpp"

#include <vector>

namespace cooper::snapshot {

struct LayerDir {
    std::int64_t id = 0;  // LayerId; only told apart, never interpreted
    sys::RootedDir dir;
};

class ChainView final : public Tree {
public:
    // Bottom first. Mutable::yes for a view whose top layer is still written (LayerBuilder::view): nothing may then
    // be hard-linked out of that layer.
    enum class TopLayer : std::uint8_t { committed, in_work };
    static Result<std::shared_ptr<const ChainView>> create(std::vector<LayerDir> layers, TopLayer top);

    [[nodiscard]] Result<DirectoryRef> root() const override;
    [[nodiscard]] bool immutable() const override { return top_ == TopLayer::committed; }
    [[nodiscard]] const std::vector<LayerDir>& layers() const { return *layers_; }

private:
    ChainView(std::shared_ptr<const std::vector<LayerDir>> layers, TopLayer top);
    std::shared_ptr<const std::vector<LayerDir>> layers_;
    TopLayer top_;
};

// Opens `<path>` of each layer. Convenience for the owner of the store.
[[nodiscard]] Result<std::vector<LayerDir>> open_layers(const std::vector<std::pair<std::int64_t, std::string>>& paths);

}  // namespace cooper::snapshot
