#include "engine/solver_store.hpp"

#include "ops/ref.hpp"
#include "remotecache/key_records.hpp"

namespace cooper::engine {

std::string link_text(const solver::CacheLink& link) {
    return remotecache::link_text(link.input, solver::root_key_id(link.digest, link.output), link.selector);
}

namespace {

constexpr const char* kScratch = "scratch";

Result<store::Chain> chain_from(const solver::ResultId& id) {
    if (id == kScratch) return store::Chain{};
    return store::Chain::parse(id);
}

}  // namespace

Result<std::vector<std::vector<solver::KeyId>>> SolverCache::follow(std::span<const solver::LinkFrom> questions) {
    std::vector<std::vector<solver::KeyId>> answers;
    answers.reserve(questions.size());
    for (const auto& question : questions) {
        answers.push_back(TRY(store_.cache_links(question.from, link_text(question.link))));
    }
    return answers;
}

Result<std::vector<solver::CacheRecord>> SolverCache::records(std::span<const solver::KeyId> keys) {
    std::vector<solver::CacheRecord> records;
    for (const auto& key : keys) {
        for (auto& row : TRY(store_.cache_results(key))) {
            records.push_back({std::move(row.key), std::move(row.result), row.created});
        }
    }
    return records;
}

Result<> SolverCache::add(const solver::CacheAddition& addition) {
    std::vector<store::CacheLinkRow> links;
    for (const auto& link : addition.links) links.push_back({link.from, link_text(link.link), link.to});
    std::vector<store::CacheResultRow> results;
    for (const auto& record : addition.records) results.push_back({record.key, record.result, record.created});
    return store_.add_cache(links, results);
}

Result<> SolverCache::drop(const solver::ResultId& result) { return store_.drop_cache_result(result); }

Result<solver::ResultId> SolverResults::save(const solver::SharedResult& result) {
    const ops::Ref* ref = ops::ref_of(result);
    if (ref == nullptr) return solver::ResultId(kScratch);
    if (ref->local() != nullptr) return fail(Code::internal, Blame::cooper, "a live directory cannot be kept");
    return ref->chain().to_string();
}

Result<std::optional<solver::SharedResult>> SolverResults::load(const solver::ResultId& id) {
    const store::Chain chain = TRY(chain_from(id));
    if (chain.empty()) return std::optional<solver::SharedResult>(nullptr);
    auto held = TRY(store_.pin(chain));
    if (held == nullptr) return std::optional<solver::SharedResult>{};
    return std::optional<solver::SharedResult>(ops::make_result(chain, std::move(held)));
}

bool SolverResults::exists(const solver::ResultId& id) {
    const auto chain = chain_from(id);
    if (!chain) return false;
    const auto exists = store_.exists(*chain);
    return exists && *exists;
}

}  // namespace cooper::engine
