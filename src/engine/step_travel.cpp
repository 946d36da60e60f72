#include "engine/step_travel.hpp"

#include "base/log.hpp"
#include "base/text.hpp"
#include "base/work_pool.hpp"
#include "codec/sha256.hpp"

#include <algorithm>
#include <functional>
#include <thread>

namespace cooper::engine {

namespace {

constexpr std::string_view kStepsType = "application/vnd.cooper.steps.v1+zstd";
constexpr std::string_view kFilesType = "application/vnd.cooper.files.v1+zstd";
constexpr std::size_t kMaxText = 16u << 20;
constexpr std::size_t kListHere = 16u << 10;       // lists up to so much are in the text,
constexpr std::size_t kListsHere = 128u << 10;     // all together up to so much
constexpr std::uint64_t kListsBeside = 64u << 20;  // and the others up to so much
constexpr std::size_t kMaxSources = 16;
constexpr std::size_t kMaxOfStage = 48;
constexpr std::size_t kMaxElsewhere = 12;
constexpr std::size_t kMaxListsKept = 16;
constexpr std::chrono::milliseconds kPatience{2'500};       // with one cache, while a step waits
constexpr std::chrono::milliseconds kPatienceInAll{5'000};  // in one build
constexpr std::chrono::milliseconds kPatienceAtExport{10'000};

// What takes longer is broken off.
template <class Work>
auto within(std::chrono::milliseconds patience, const Stop& stop, Work work) {
    StopSource own;
    const std::stop_callback forward(stop, [&own] { own.request_stop(); });
    const std::jthread timer([&own, patience](const std::stop_token& ended) {
        Guarded<bool> never;
        never.lock().wait_for(ended, patience, [] { return false; });
        if (!ended.stop_requested()) own.request_stop();
    });
    return work(own.get_token());
}

bool is_of_here(const std::string& state) { return !state.starts_with("pin ") && !state.starts_with("layers "); }

}  // namespace

// All that one cache says. Never changes.
struct StepTravel::Records {
    std::vector<std::shared_ptr<const why::TravellingStep>> steps;
    std::multimap<std::string, std::size_t> by_text;
    std::multimap<std::string, std::size_t> by_stage;
    std::map<std::string, std::size_t> by_result;
    std::map<std::string, why::ListPlace> lists;
};

struct StepTravel::Source {
    explicit Source(std::shared_ptr<cachestore::CacheStore> from) : cache(std::move(from)) {}
    const std::shared_ptr<cachestore::CacheStore> cache;
    enum class State : std::uint8_t { unasked, known, none, damaged, late };
    struct Asked {
        State state = State::unasked;
        std::shared_ptr<const Records> records;
    };
    Guarded<Asked> asked;
};

void StepTravel::add(std::shared_ptr<cachestore::CacheStore> cache) {
    auto sources = sources_.lock();
    if (sources->empty()) *left_.lock() = kPatienceInAll;
    if (sources->size() < kMaxSources) sources->push_back(std::make_shared<Source>(std::move(cache)));
}

// ---- asking

Result<std::shared_ptr<const StepTravel::Records>> StepTravel::fetch(cachestore::CacheStore& cache, const Stop& stop) {
    auto records = std::make_shared<Records>();
    bool any = false;
    for (const auto& index : TRY(cache.get_indexes(std::string(kStepsName), stop))) {
        if ((cache.has_blob_lists() && index.media_type != kStepsType) || index.text.size() > kMaxText) continue;
        auto parsed = why::parse_travelling(index.text);
        if (!parsed) continue;
        any = true;
        for (auto& step : parsed->steps) {
            if (records->steps.size() >= 2 * why::kMaxTravellingSteps) break;
            const std::size_t at = records->steps.size();
            records->by_text.emplace(step.step.text, at);
            // Base images are those of other steps, too.
            if (!step.step.inputs.empty()) records->by_stage.emplace(why::place_of(step.step.name).stage, at);
            if (!step.step.result.empty()) records->by_result.try_emplace(step.step.result, at);
            records->steps.push_back(std::make_shared<const why::TravellingStep>(std::move(step)));
        }
        records->lists.merge(parsed->lists);
    }
    if (!any) return fail(Code::data_loss, Blame::world, "{}: records of steps are damaged", cache.place());
    return std::shared_ptr<const Records>(std::move(records));
}

std::vector<StepTravel::SharedSource> StepTravel::asked(std::chrono::milliseconds patience, const Stop& stop) {
    const std::vector<SharedSource> sources = *sources_.lock();
    for (const auto& source : sources) {
        auto asked = source->asked.lock();
        const bool again = asked->state == Source::State::late && patience > kPatience;
        if (asked->state != Source::State::unasked && !again) continue;
        auto most = patience;
        if (patience <= kPatience) most = std::min(most, *left_.lock());
        if (most <= std::chrono::milliseconds::zero()) {
            asked->state = Source::State::late;
            continue;
        }
        const auto began = std::chrono::steady_clock::now();
        auto fetched = within(most, stop, [&](const Stop& own) { return fetch(*source->cache, own); });
        if (patience <= kPatience) {
            const auto took = std::chrono::steady_clock::now() - began;
            *left_.lock() -= std::chrono::duration_cast<std::chrono::milliseconds>(took);
        }
        if (fetched) {
            asked->records = std::move(*fetched);
            asked->state = Source::State::known;
            continue;
        }
        log::debug("records of steps were not read", {{"error", fetched.error().to_string()}});
        const Code code = fetched.error().code();
        asked->state = code == Code::not_found                                       ? Source::State::none
                       : fetched.error().is_cancelled() || code == Code::unavailable ? Source::State::late
                                                                                     : Source::State::damaged;
    }
    return sources;
}

std::vector<std::shared_ptr<const StepTravel::Records>> StepTravel::known() {
    const std::vector<SharedSource> sources = *sources_.lock();
    std::vector<std::shared_ptr<const Records>> all;
    for (const auto& source : sources) {
        auto asked = source->asked.lock();
        if (asked->records) all.push_back(asked->records);
    }
    return all;
}

std::vector<StepTravel::Found> StepTravel::find(const std::string& stage, const std::string& text, const Stop& stop) {
    std::vector<Found> same;
    std::vector<Found> of_stage;
    std::vector<Found> elsewhere;
    for (const auto& source : asked(kPatience, stop)) {
        const auto records = source->asked.lock()->records;
        if (!records) continue;
        const auto with_text = records->by_text.equal_range(text);
        for (auto it = with_text.first; it != with_text.second; ++it) {
            const auto& step = records->steps[it->second];
            auto& list = why::place_of(step->step.name).stage == stage ? same : elsewhere;
            if (list.size() < kMaxElsewhere) list.push_back({step, source->cache->place()});
        }
        const auto in_stage = records->by_stage.equal_range(stage);
        for (auto it = in_stage.first; it != in_stage.second && of_stage.size() < kMaxOfStage; ++it)
            of_stage.push_back({records->steps[it->second], source->cache->place()});
    }
    if (!same.empty()) return same;
    of_stage.insert(of_stage.end(), elsewhere.begin(), elsewhere.end());
    return of_stage;
}

std::optional<why::Ingredients> StepTravel::record_of(const std::string& state) {
    for (const auto& records : known()) {
        if (const auto found = records->by_result.find(state); found != records->by_result.end())
            return records->steps[found->second]->step;
    }
    return std::nullopt;
}

bool StepTravel::knows_stage(const std::string& stage) {
    return std::ranges::any_of(known(), [&](const auto& records) { return records->by_stage.contains(stage); });
}

std::string StepTravel::problem() {
    const std::vector<SharedSource> sources = *sources_.lock();
    for (const auto& source : sources) {
        const auto state = source->asked.lock()->state;
        const char* told = state == Source::State::none      ? "has no records of steps"
                           : state == Source::State::damaged ? "has records of steps that are damaged"
                           : state == Source::State::late    ? "did not say in time what its steps were made of"
                                                             : nullptr;
        if (told != nullptr) return fmt::format("cache {} {}", source->cache->place(), told);
    }
    return sources.size() == 1 ? fmt::format("cache {} has no such step", sources.front()->cache->place())
                               : std::string("no cache has such a step");
}

namespace {

Result<std::string> read_blob(cachestore::CacheStore& cache, const why::ListPlace& place, const Stop& stop) {
    oci::Descriptor blob;
    blob.media_type = kFilesType;
    blob.digest = place.digest;
    blob.size = place.size;
    const auto source = TRY(cache.get(blob, cachestore::kWhole, stop));
    std::string bytes = TRY(read_all(*source, place.size));
    if (codec::sha256_of(bytes) != place.digest)
        return fail(Code::data_loss, Blame::world, "{} is damaged in {}", place.digest.to_string(), cache.place());
    return bytes;
}

}  // namespace

std::optional<std::string> StepTravel::list(const std::string& name, const Stop& stop) {
    {
        auto lists = lists_.lock();
        if (const auto found = lists->find(name); found != lists->end()) return found->second;
    }
    const std::vector<SharedSource> sources = *sources_.lock();
    for (const auto& source : sources) {
        const auto records = source->asked.lock()->records;
        if (!records) continue;
        const auto place = records->lists.find(name);
        if (place == records->lists.end()) continue;
        if (!place->second.data.empty()) return place->second.data;
        const auto most = std::min(kPatience, *left_.lock());
        if (most <= std::chrono::milliseconds::zero()) continue;
        const auto began = std::chrono::steady_clock::now();
        auto bytes = within(most, stop, [&](const Stop& own) { return read_blob(*source->cache, place->second, own); });
        const auto took = std::chrono::steady_clock::now() - began;
        *left_.lock() -= std::chrono::duration_cast<std::chrono::milliseconds>(took);
        if (!bytes) {
            log::debug("a list of files was not read", {{"error", bytes.error().to_string()}});
            continue;
        }
        auto lists = lists_.lock();
        if (lists->size() < kMaxListsKept) lists->emplace(name, *bytes);
        return std::move(*bytes);
    }
    return std::nullopt;
}

// ---- names of results

std::string StepTravel::portable_state(const std::string& state) {
    if (state.empty() || !is_of_here(state)) return state;
    {
        auto portable = portable_.lock();
        if (const auto found = portable->find(state); found != portable->end()) return found->second;
    }
    const auto chain = store::Chain::parse(state);
    if (!chain || chain->empty()) return state;
    std::vector<Digest> diff_ids;
    for (const store::LayerId layer : chain->layers) {
        const auto record = store_.layer(layer);
        if (!record || !record->info.diff_id) return state;  // nobody elsewhere can have it
        diff_ids.push_back(*record->info.diff_id);
    }
    std::string name = why::state_of_layers(diff_ids);
    portable_.lock()->emplace(state, name);
    local_.lock()->emplace(name, state);
    return name;
}

why::Ingredients StepTravel::portable(why::Ingredients step) {
    return why::portable(std::move(step), [this](const std::string& state) { return portable_state(state); });
}

std::string StepTravel::local_state(const std::string& state) {
    auto local = local_.lock();
    const auto found = local->find(state);
    return found == local->end() ? state : found->second;
}

// ---- exporting

struct StepTravel::Gathered {
    why::Travelling out;
    std::vector<cachestore::PutBlob> blobs;
    std::vector<oci::Descriptor> beside;
    std::set<std::string> taken;  // results
};

Result<StepTravel::Gathered> StepTravel::gather(const Export& wanted, const Stop& stop) {
    Gathered gathered;
    const auto state_of = [&](const std::string& state) {
        if (state.starts_with("pin ") || state == "scratch" || state == "local") return state;
        const auto found = wanted.states.find(state);
        return found == wanted.states.end() ? std::string() : found->second;
    };
    std::vector<std::string> missing;  // results that were not made here
    std::set<std::string> pins;
    const auto take = [&](why::TravellingStep step) {
        for (const auto& input : step.step.inputs) {
            if (input.state.starts_with("pin ")) pins.insert(input.state);
        }
        gathered.taken.insert(step.step.result);
        gathered.out.steps.push_back(std::move(step));
    };
    const auto take_here = [&](const std::string& state) -> Result<bool> {
        const auto record = TRY(store_.find_step_of(state));
        auto step = record ? why::parse_ingredients(record->data) : std::nullopt;
        if (!step) return false;
        take({why::portable(std::move(*step), state_of), record->created});
        return true;
    };
    for (const auto& [here, anywhere] : wanted.states) {
        TRY(check_stop(stop));
        if (gathered.taken.contains(anywhere)) continue;
        if (!TRY(take_here(here))) missing.push_back(anywhere);
    }
    // Of what was found in a cache, that cache has the records.
    const auto sources = missing.empty() ? std::vector<SharedSource>() : asked(kPatienceAtExport, stop);
    const auto take_elsewhere = [&](const std::string& result) {
        if (gathered.taken.contains(result)) return;
        for (const auto& records : known()) {
            const auto found = records->by_result.find(result);
            if (found == records->by_result.end()) continue;
            take(*records->steps[found->second]);
            return;
        }
    };
    for (const auto& result : missing) take_elsewhere(result);
    for (const auto& pin : std::set<std::string>(pins)) {
        if (!TRY(take_here(pin))) take_elsewhere(pin);
    }
    return gathered;
}

// Of local contexts first: what people have changed is there. The same lists give the same places, whoever has them.
Result<> StepTravel::add_lists(Gathered& gathered, const Stop& stop) {
    std::set<std::string> local;
    std::set<std::string> other;
    for (const auto& step : gathered.out.steps) {
        for (const auto& input : step.step.inputs) {
            if (!input.files.empty()) (input.is_local ? local : other).insert(input.files);
        }
    }
    std::vector<std::string> names(local.begin(), local.end());
    std::ranges::set_difference(other, local, std::back_inserter(names));

    const std::vector<SharedSource> sources = *sources_.lock();
    std::size_t here = 0;
    std::uint64_t beside = 0;
    const auto add = [&](const std::string& name, why::ListPlace place, auto open) {
        if (!place.data.empty() && place.data.size() <= kListHere && here + place.data.size() <= kListsHere) {
            here += place.data.size();
            gathered.out.lists[name] = {.data = std::move(place.data), .digest = {}, .size = 0};
            return;
        }
        if (gathered.blobs.size() >= why::kMaxTravellingBlobs || place.size > why::kMaxListBytes ||
            beside + place.size > kListsBeside)
            return;
        beside += place.size;
        cachestore::PutBlob put;
        put.blob.media_type = kFilesType;
        put.blob.digest = place.digest;
        put.blob.size = place.size;
        put.open = std::move(open);
        gathered.blobs.push_back(std::move(put));
        place.data.clear();
        gathered.out.lists[name] = std::move(place);
    };
    const auto add_bytes = [&](const std::string& name, const std::string& bytes) {
        const auto shared = std::make_shared<const std::string>(bytes);
        add(name, {.data = bytes, .digest = codec::sha256_of(bytes), .size = bytes.size()},
            [shared]() -> Result<std::unique_ptr<ByteSource>> { return std::make_unique<StringSource>(*shared); });
    };
    for (const auto& name : names) {
        TRY(check_stop(stop));
        if (const auto kept = TRY(store_.manifest(name))) {
            if (const auto packed = why::pack_for_travel(*kept)) add_bytes(name, *packed);
            continue;
        }
        for (const auto& source : sources) {
            const auto records = source->asked.lock()->records;
            if (!records) continue;
            const auto found = records->lists.find(name);
            if (found == records->lists.end()) continue;
            if (!found->second.data.empty()) {
                add_bytes(name, found->second.data);
            } else {
                add(name, found->second,
                    [source, place = found->second, stop]() -> Result<std::unique_ptr<ByteSource>> {
                        std::string bytes = TRY(read_blob(*source->cache, place, stop));
                        return std::make_unique<StringSource>(std::move(bytes));
                    });
            }
            break;
        }
    }
    return {};
}

Result<> StepTravel::put_lists(cachestore::CacheStore& cache, Gathered& gathered, const Stop& stop) {
    Guarded<std::set<Digest>> lost;
    TRY(parallel_for(gathered.blobs.size(), cache.parallelism(), [&](std::size_t i) -> Result<> {
        const auto put = cache.put(gathered.blobs[i], stop);
        if (!put && put.error().is_cancelled()) return put.error();
        if (!put) lost.lock()->insert(gathered.blobs[i].blob.digest);
        return {};
    }));
    const std::set<Digest> gone = *lost.lock();
    std::erase_if(gathered.out.lists, [&](const auto& one) { return gone.contains(one.second.digest); });
    return {};
}

Result<> StepTravel::save(Export& wanted, VertexProgress& progress, const Stop& stop) {
    Gathered gathered = TRY(gather(wanted, stop));
    if (gathered.out.steps.empty()) return {};
    TRY(add_lists(gathered, stop));
    TRY(put_lists(*wanted.cache, gathered, stop));
    cachestore::Index index;
    // Where only the text is kept it is written once more each time; a registry sees that it has it.
    if (wanted.keep_others || !wanted.cache->has_blob_lists()) {
        const auto found = wanted.cache->get_indexes(std::string(kStepsName), stop);
        if (!found && found.error().code() != Code::not_found) return found.error();
        for (const auto& one : found ? *found : std::vector<cachestore::Index>()) {
            auto earlier = one.text.size() <= kMaxText ? why::parse_travelling(one.text) : std::nullopt;
            if (wanted.keep_others && earlier) {
                for (auto& step : earlier->steps) {
                    if (!gathered.taken.contains(step.step.result)) gathered.out.steps.push_back(std::move(step));
                }
                gathered.out.lists.merge(earlier->lists);
            }
            if (one.text == why::to_text(gathered.out)) return {};
        }
    }
    index.media_type = kStepsType;
    index.text = why::to_text(gathered.out);
    index.embed = true;
    std::set<Digest> listed;
    for (const auto& [name, place] : gathered.out.lists) {
        if (place.digest.empty() || !listed.insert(place.digest).second) continue;
        oci::Descriptor blob;
        blob.media_type = kFilesType;
        blob.digest = place.digest;
        blob.size = place.size;
        index.blobs.push_back(std::move(blob));
    }
    std::ranges::sort(index.blobs, {}, [](const auto& one) { return one.digest.to_string(); });
    const oci::Descriptor top = TRY(wanted.cache->put_index(std::string(kStepsName), index, stop));
    if (!wanted.cache->names_are_ours()) wanted.written = top;
    const std::string row = fmt::format("writing what its steps were made of ({}, {} steps)",
                                        human_size(index.text.size()), gathered.out.steps.size());
    progress.status(row, row, 0, 0, true);
    return {};
}

}  // namespace cooper::engine
