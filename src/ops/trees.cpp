#include "ops/trees.hpp"

#include "layer/copy.hpp"
#include "snapshot/layer_builder.hpp"

#include <fmt/core.h>
#include <iterator>

namespace cooper::ops {

Result<> Trees::ensure(const store::Chain& chain, VertexProgress& progress, Stop stop) {
    if (!TRY(store_.hold(chain))) {
        return fail(Code::not_found, Blame::world, "a layer of {} was removed meanwhile", chain.to_string())
            .with_hint("build again");
    }
    return fetcher_.materialize(chain, progress, stop);
}

Result<std::vector<snapshot::LayerDir>> Trees::layer_dirs(const store::Chain& chain) {
    std::vector<std::pair<std::int64_t, std::string>> paths;
    for (const store::LayerId id : chain.layers) paths.emplace_back(id, store_.layer_path(id));
    return snapshot::open_layers(paths);
}

Result<std::shared_ptr<ChainTree>> Trees::open(const store::Chain& chain, VertexProgress& progress, Stop stop) {
    const std::string key = chain.to_string();
    {
        auto open = open_.lock();
        if (const auto found = open->find(key); found != open->end()) return found->second;
    }
    TRY(ensure(chain, progress, stop));
    auto made = std::make_shared<ChainTree>();
    made->tree = TRY(snapshot::ChainView::create(TRY(layer_dirs(chain)), snapshot::ChainView::TopLayer::committed));
    made->table_key = key;
    made->table_file = store_.layers_dir() + "/" + std::to_string(chain.layers.back()) + "/digests";
    made->digester = std::make_unique<layer::TreeDigester>(
        made->tree, layer::DigestTable::load(made->table_file, made->table_key), threads_);
    auto open = open_.lock();
    return open->try_emplace(key, std::move(made)).first->second;
}

Result<snapshot::TreeRef> Trees::tree(const solver::SharedResult& result, VertexProgress& progress, Stop stop) {
    const Ref* ref = ref_of(result);
    if (ref == nullptr) return snapshot::empty_tree();
    if (ref->local() != nullptr) return ref->local()->tree();
    return TRY(open(ref->chain(), progress, stop))->tree;
}

Result<store::Chain> Trees::layers_of(const solver::SharedResult& result, std::string_view use, Stop stop) {
    const Ref* ref = ref_of(result);
    if (ref == nullptr || ref->local() == nullptr) return chain_of(result);
    store::LayerDraft draft = TRY(store_.begin_layer());
    const auto builder = TRY(snapshot::LayerBuilder::create({}, TRY(draft.open())));
    builder->set_before_write([&](std::uint64_t bytes) { return store_.space().charge(bytes, use); });
    TRY(layer::materialize(ref->local()->tree(), *builder, &ref->local()->digester(), stop));
    TRY(builder->finish());
    store::LayerInfo info;
    info.description = fmt::format("local context for {}", use);
    info.record_type = "source.local";
    info.size_bytes = builder->written().bytes;
    return store::Chain{{TRY(std::move(draft).commit(info))}};
}

Result<Digest> Trees::digest(const solver::SharedResult& result, const std::vector<layer::ContentSelector>& selectors,
                             VertexProgress& progress, Stop stop) {
    const Ref* ref = ref_of(result);
    if (ref == nullptr) return layer::digest_of_scratch(selectors);
    if (ref->local() != nullptr) return ref->local()->digest(selectors, stop);
    const auto chain = TRY(open(ref->chain(), progress, stop));
    const Digest digest = TRY(chain->digester->digest_all(selectors, stop));
    if (chain->digester->learnt()) {
        // Remembering is a kindness to the next build; a full disk must not fail this one.
        if (chain->digester->table().save(chain->table_file, chain->table_key))
            static_cast<void>(store_.note_files_of(chain_of(result).layers.back()));
    }
    return digest;
}

Result<Digest> Trees::alike_digest(const solver::SharedResult& result,
                                   const std::vector<layer::ContentSelector>& selectors,
                                   const layer::Replacement& replacement, VertexProgress& progress, Stop stop) {
    const Ref* ref = ref_of(result);
    if (ref == nullptr) return layer::digest_of_scratch(selectors);
    if (ref->local() != nullptr) return ref->local()->digester().digest_alike(selectors, replacement, stop);
    return TRY(open(ref->chain(), progress, stop))->digester->digest_alike(selectors, replacement, stop);
}

Result<std::optional<std::vector<layer::TreeDigester::ListedFile>>> Trees::list(
    const solver::SharedResult& result, const std::vector<layer::ContentSelector>& selectors,
    const layer::Replacement& replacement, std::size_t limit, VertexProgress& progress, Stop stop) {
    using Files = std::vector<layer::TreeDigester::ListedFile>;
    const Ref* ref = ref_of(result);
    if (ref == nullptr) return std::optional<Files>();
    std::shared_ptr<ChainTree> chain;
    if (ref->local() == nullptr) chain = TRY(open(ref->chain(), progress, stop));
    layer::TreeDigester& digester = chain ? *chain->digester : ref->local()->digester();
    Files files;
    for (const auto& selector : selectors) {
        auto some = TRY(digester.list(selector, replacement, limit - files.size(), stop));
        if (!some) return std::optional<Files>();
        std::move(some->begin(), some->end(), std::back_inserter(files));
    }
    return std::optional<Files>(std::move(files));
}

}  // namespace cooper::ops
