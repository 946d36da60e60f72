#include "solver/memory_cache.hpp"

#include <algorithm>

namespace cooper::solver {

Result<std::vector<std::vector<KeyId>>> MemoryCacheStore::follow(std::span<const LinkFrom> questions) {
    std::vector<std::vector<KeyId>> answers(questions.size());
    auto state = state_.lock();
    for (std::size_t i = 0; i < questions.size(); ++i) {
        const auto from = state->links.find(questions[i].from);
        if (from == state->links.end()) continue;
        const auto to = from->second.find(questions[i].link);
        if (to != from->second.end()) answers[i].assign(to->second.begin(), to->second.end());
    }
    return answers;
}

Result<std::vector<CacheRecord>> MemoryCacheStore::records(std::span<const KeyId> keys) {
    std::vector<CacheRecord> found;
    auto state = state_.lock();
    for (const KeyId& key : keys) {
        const auto records = state->records.find(key);
        if (records != state->records.end()) found.insert(found.end(), records->second.begin(), records->second.end());
    }
    return found;
}

Result<> MemoryCacheStore::add(const CacheAddition& addition) {
    auto state = state_.lock();
    for (const LinkTo& link : addition.links) state->links[link.from][link.link].insert(link.to);
    for (const CacheRecord& record : addition.records) {
        std::vector<CacheRecord>& records = state->records[record.key];
        const auto same = [&](const CacheRecord& other) { return other.result == record.result; };
        if (const auto found = std::ranges::find_if(records, same); found != records.end()) {
            found->created = record.created;
        } else {
            records.push_back(record);
        }
    }
    return {};
}

Result<> MemoryCacheStore::drop(const ResultId& result) {
    auto state = state_.lock();
    for (auto& [key, records] : state->records) {
        std::erase_if(records, [&](const CacheRecord& record) { return record.result == result; });
    }
    return {};
}

Result<ResultId> MemoryResultStore::save(const SharedResult& result) {
    auto state = state_.lock();
    ResultId id = std::to_string(state->next++);
    state->results.emplace(id, result);
    return id;
}

Result<std::optional<SharedResult>> MemoryResultStore::load(const ResultId& id) {
    auto state = state_.lock();
    const auto found = state->results.find(id);
    if (found == state->results.end()) return std::optional<SharedResult>();
    return std::optional<SharedResult>(found->second);
}

bool MemoryResultStore::exists(const ResultId& id) { return state_.lock()->results.contains(id); }

void MemoryResultStore::remove(const ResultId& id) { state_.lock()->results.erase(id); }

}  // namespace cooper::solver
