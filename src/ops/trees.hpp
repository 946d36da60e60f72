// Trees: chains of layers as readable trees with their content digests, opened once and shared. Layers
// that are not on disk yet are fetched when a tree is asked for.
// Any thread.
#pragma once

#include "base/guarded.hpp"
#include "base/progress.hpp"
#include "layer/tree_digest.hpp"
#include "ops/ref.hpp"
#include "snapshot/chain_view.hpp"
#include "store/store.hpp"

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace cooper::ops {

// Fetches and unpacks layers that are only known by their blobs.
// Whole chains: a directory that a layer only implies looks as the layers below it say.
class LayerFetcher {
public:
    virtual ~LayerFetcher() = default;
    virtual Result<> materialize(const store::Chain& chain, VertexProgress& progress, Stop stop) = 0;
};

struct ChainTree {
    snapshot::TreeRef tree;
    std::unique_ptr<layer::TreeDigester> digester;
    std::string table_file;  // where digests are remembered
    std::string table_key;
};

class Trees {
public:
    Trees(store::Store& store, LayerFetcher& fetcher, std::size_t threads)
        : store_(store), fetcher_(fetcher), threads_(threads) {}

    // All layers on disk and held by this process.
    [[nodiscard]] Result<> ensure(const store::Chain& chain, VertexProgress& progress, Stop stop);
    [[nodiscard]] Result<std::shared_ptr<ChainTree>> open(const store::Chain& chain, VertexProgress& progress,
                                                          Stop stop);
    // Of a result of either kind; scratch is the empty tree.
    [[nodiscard]] Result<snapshot::TreeRef> tree(const solver::SharedResult& result, VertexProgress& progress,
                                                 Stop stop);
    // The same as layers, which may have to be fetched still; a live directory is copied into one, described by `use`.
    [[nodiscard]] Result<store::Chain> layers_of(const solver::SharedResult& result, std::string_view use, Stop stop);
    [[nodiscard]] Result<std::vector<snapshot::LayerDir>> layer_dirs(const store::Chain& chain);
    [[nodiscard]] Result<Digest> digest(const solver::SharedResult& result,
                                        const std::vector<layer::ContentSelector>& selectors, VertexProgress& progress,
                                        Stop stop);
    // The digest of what a copy with this replacement cannot tell from it.
    [[nodiscard]] Result<Digest> alike_digest(const solver::SharedResult& result,
                                              const std::vector<layer::ContentSelector>& selectors,
                                              const layer::Replacement& replacement, VertexProgress& progress,
                                              Stop stop);
    // What these digests were made of, at most limit files; nullopt: more, or of scratch.
    [[nodiscard]] Result<std::optional<std::vector<layer::TreeDigester::ListedFile>>> list(
        const solver::SharedResult& result, const std::vector<layer::ContentSelector>& selectors,
        const layer::Replacement& replacement, std::size_t limit, VertexProgress& progress, Stop stop);

private:
    store::Store& store_;
    LayerFetcher& fetcher_;
    std::size_t threads_;
    Guarded<std::map<std::string, std::shared_ptr<ChainTree>>> open_;
};

}  // namespace cooper::ops
