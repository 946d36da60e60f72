#include "engine/step_notes.hpp"

#include "base/log.hpp"
#include "base/text.hpp"
#include "codec/sha256.hpp"
#include "llb/cache_digest.hpp"
#include "ops/file_op.hpp"
#include "ops/ref.hpp"

#include <algorithm>
#include <array>
#include <unistd.h>

namespace cooper::engine {

namespace {

constexpr int kMaxDepth = 32;                        // steps between this one and the one that missed by itself
constexpr std::size_t kMaxClosePacked = 256 << 10U;  // lists that are unpacked only to choose between records
constexpr std::size_t kMaxClose = 4;

std::string state_of(const solver::SharedResult& result) {
    const ops::Ref* ref = ops::ref_of(result);
    if (ref == nullptr) return "scratch";
    return ref->local() != nullptr ? "local" : ref->chain().to_string();
}

std::string pin_state(const Digest& pin) { return "pin " + pin.to_string(); }

std::string local_name(const llb::LoadedVertex& vertex) {
    const auto* source = std::get_if<llb::SourceOp>(&vertex.op.body);
    if (source == nullptr || !source->identifier.starts_with("local://")) return {};
    return source->identifier.substr(8);
}

// Parts of one instruction (COPY --link) are called by it.
const std::string& name_of(const llb::LoadedVertex& vertex) {
    const auto& group = vertex.metadata.progress_group;
    return group && !group->name.empty() ? group->name : vertex.name;
}

// Whose running people see: what they have written, not what builders put between.
bool is_shown(const why::Ingredients& step) {
    if (step.kind == "merge" || step.kind == "diff") return false;
    const why::Place place = why::place_of(step.name);
    if (place.number > 0) return true;
    if (place.stage.starts_with("internal") || place.stage == "auth") return false;
    return step.kind == "exec" || step.kind == "file" || step.kind == "image" || step.kind == "source";
}

why::FileEntry to_entry(const layer::TreeDigester::ListedFile& file) {
    why::FileEntry entry{.path = file.path,
                         .mode = file.node.mode & 07777U,
                         .uid = file.node.uid,
                         .gid = file.node.gid,
                         .size = file.node.size};
    switch (file.node.kind) {
        case snapshot::Kind::directory:
            entry.kind = why::FileKind::directory;
            entry.size = 0;
            break;
        case snapshot::Kind::symlink:
            entry.kind = why::FileKind::link;
            break;
        case snapshot::Kind::file:
            entry.kind = why::FileKind::file;
            break;
        default:
            entry.kind = why::FileKind::other;
    }
    std::copy_n(file.digest.begin(), entry.digest.size(), entry.digest.begin());
    return entry;
}

std::string files_name(const Digest& content, const llb::InputCacheInfo& input) {
    std::string selectors;
    for (const auto& one : input.content) {
        selectors += fmt::format("{}\n{:d}{:d}\n{}\n{}\n", one.path, one.wildcard, one.follow_links,
                                 join(one.include_patterns, "\n"), join(one.exclude_patterns, "\n"));
    }
    return codec::sha256_of(content.to_string() + "\n" + selectors).hex().substr(0, 32);
}

}  // namespace

Expectation parse_expectation(const std::string& text) {
    Expectation expectation;
    for (const auto& stage : split(text, ',')) {
        if (!trim(stage).empty()) expectation.stages.insert(to_lower(trim(stage)));
    }
    expectation.all = expectation.stages.empty();
    return expectation;
}

StepNotes::StepNotes(store::Store& store, std::string build, std::string project)
    : store_(store), travel_(store), build_(std::move(build)), project_(std::move(project)) {}

void StepNotes::add_options(const std::map<std::string, std::string>& options) {
    if (auto project = project_.lock(); project->empty()) {
        std::string place;
        for (const char* name : {"context", "filename", "vcs:source", "vcs:localdir:context"}) {
            const auto found = options.find(name);
            place += (found == options.end() ? std::string() : found->second) + "\n";
        }
        *project = codec::sha256_of(place).hex().substr(0, 32);
    }
    auto arguments = arguments_.lock();
    for (const auto& [key, value] : options) {
        if (key.starts_with("build-arg:")) arguments->insert_or_assign(key.substr(10), value);
    }
}

Result<> StepNotes::check_stages(const std::set<std::string>& known) {
    const Expectation expected = *expected_.lock();
    for (const auto& stage : expected.stages) {
        if (known.contains(stage)) continue;
        const auto near = nearest(stage, {known.begin(), known.end()});
        return bad_input("--expect-cached: no stage {} takes part in this build{}", quoted(stage),
                         near ? ", did you mean " + *near + "?" : "");
    }
    return {};
}

bool StepNotes::is_expected(const why::Place& place) {
    auto expected = expected_.lock();
    // Steps of a build of one stage do not name it.
    return expected->all || (expected->is_set() && place.stage.empty()) ||
           expected->stages.contains(to_lower(place.stage));
}

const why::Redactor& StepNotes::redactor() {
    auto made = redactor_.lock();
    if (!*made) {
        std::string key;
        if (auto kept = store_.fact("why-key"); kept && *kept) key = std::move((*kept)->value);
        if (key.empty()) {
            std::array<std::uint8_t, 16> random{};
            static_cast<void>(::getentropy(random.data(), random.size()));
            key = to_hex(random);
            static_cast<void>(store_.set_fact("why-key", key));
        }
        made->emplace(std::move(key));
    }
    return **made;  // never changes again
}

why::Redactor StepNotes::redactor_of(const Plan& plan, const std::map<std::string, std::string>& arguments) {
    std::vector<std::string> secrets;
    const auto add = [&](std::string_view name, std::string_view value) {
        if (why::names_secret(name) || why::looks_secret(value)) secrets.emplace_back(value);
    };
    for (const auto& [name, value] : arguments) add(name, value);
    for (const auto& vertex : plan.graph.vertices) {
        const auto* exec = std::get_if<llb::ExecOp>(&vertex.op.body);
        if (exec == nullptr) continue;
        for (const auto& one : exec->meta.env) {
            const auto [name, value] = cut(one, '=');
            add(name, value.value_or(""));
        }
    }
    return redactor().knowing(std::move(secrets));
}

std::shared_ptr<StepText> StepNotes::text_of(const Plan& plan) {
    std::map<std::string, std::string> arguments = *arguments_.lock();
    auto kept = plan.text.lock();
    if (*kept == nullptr || (*kept)->arguments() != arguments) {
        why::Redactor redactor = redactor_of(plan, arguments);
        *kept = std::make_shared<StepText>(plan, std::move(arguments), std::move(redactor));
    }
    return *kept;
}

why::Ingredients StepNotes::ingredients_of(const Step& step, StepText& text) {
    const llb::LoadedVertex& vertex = step.plan.graph.vertices[step.index];
    why::Ingredients out{.builder = COOPER_VERSION,
                         .project = *project_.lock(),
                         .name = text.redactor().text(name_of(vertex)),
                         .kind = why::kind_of(vertex.op),
                         .text = text.text_of(vertex)};
    out.values = why::values_of(vertex.op, step.platform, text.redactor());
    // Keyed digests already; they tell no more than that the secret is another one.
    static const std::map<std::string, std::string> kNone;
    for (const auto& [id, key] : vertex.inputs.empty() ? kNone : step.secret_keys)
        out.values.push_back({"secret " + id, "***" + codec::sha256_of(key).hex().substr(0, 8)});
    out.variables = text.variables_of(vertex);
    if (vertex.inputs.empty()) {
        auto pins = pins_.lock();
        if (const auto pin = pins->find(vertex.digest); pin != pins->end())
            out.values.push_back({"what it means now", pin->second.to_string()});
    }
    const auto cache = llb::cache_info(vertex.op, step.platform);
    for (std::size_t i = 0; i < vertex.inputs.size(); ++i) {
        const llb::LoadedVertex& from = step.plan.graph.vertices[vertex.inputs[i].vertex];
        why::InputPart part{.step = text.redactor().text(name_of(from))};
        if (i < step.inputs.size()) part.state = state_of(step.inputs[i]);
        if (const std::string local = local_name(from); !local.empty()) {
            part.is_local = true;
            part.step = local;
        }
        if (const auto image = why::image_of(from.op)) {
            part.image = image->name;
            part.digest = image->digest;
        }
        if (from.inputs.empty() && !part.is_local) {
            auto pins = pins_.lock();
            if (const auto pin = pins->find(from.digest); pin != pins->end()) part.state = pin_state(pin->second);
        }
        if (const auto content = step.contents.find(i); content != step.contents.end()) {
            part.content = content->second.to_string();
            if (cache && i < cache->inputs.size()) part.files = files_name(content->second, cache->inputs[i]);
        }
        out.inputs.push_back(std::move(part));
    }
    return out;
}

// Lists of the files that the step reads, for this comparison and later ones.
Result<> StepNotes::add_files(const Step& step, const why::Ingredients& ingredients, solver::OpContext& context) {
    const llb::LoadedVertex& vertex = step.plan.graph.vertices[step.index];
    const auto cache = TRY(llb::cache_info(vertex.op, step.platform));
    for (const auto& [input, content] : step.contents) {
        if (input >= ingredients.inputs.size() || input >= step.inputs.size()) continue;
        const std::string& name = ingredients.inputs[input].files;
        if (name.empty() || TRY(store_.has_manifest(name))) continue;
        // What the step replaces is no difference.
        const auto* op = std::get_if<llb::FileOp>(&vertex.op.body);
        const layer::Replacement replacement =
            op == nullptr ? layer::Replacement() : ops::replacement_of(*op, static_cast<std::int64_t>(input));
        const auto listed =
            TRY(step.environment.trees.list(step.inputs[input], ops::to_selectors(cache.inputs[input].content),
                                            replacement, why::kMaxFiles, context.progress, context.stop));
        if (!listed) continue;
        std::vector<why::FileEntry> files;
        files.reserve(listed->size());
        for (const auto& file : *listed) files.push_back(to_entry(file));
        TRY(store_.add_manifest(name, why::pack(std::move(files))));
    }
    return {};
}

Result<StepNotes::Begun> StepNotes::begin(const Step& step, solver::OpContext& context) {
    const llb::LoadedVertex& vertex = step.plan.graph.vertices[step.index];
    const std::shared_ptr<StepText> text_of_plan = text_of(step.plan);
    StepText& text = *text_of_plan;
    Begun begun{ingredients_of(step, text)};
    if (begun.ingredients.kind == "local") return begun;
    if (const auto added = add_files(step, begun.ingredients, context); !added) {
        if (added.error().is_cancelled()) return added.error();
        log::debug("the files of a step were not noted", {{"error", added.error().to_string()}});
    }
    const Found found = explain(step, begun.ingredients, text, context);
    (*ran_.lock())[vertex.digest] = {begun.ingredients.name, found.cause, found.was_unfinished};
    // Whatever happens from here on: that it had begun is known.
    const auto note = [&]() -> Begun {
        begun.ingredients.result = store::kUnfinished;
        begun.ingredients.ending = why::kBegun;
        if (const auto added = store_.add_step(to_record(begun.ingredients))) begun.record = *added;
        return std::move(begun);
    };
    if (!is_shown(begun.ingredients)) return note();

    const why::Place place = why::place_of(begun.ingredients.name);
    why::Miss miss{.step = begun.ingredients.name,
                   .stage = place.stage,
                   .number = place.number,
                   .count = place.count,
                   .instruction = begun.ingredients.text,
                   .cause = found.cause};
    if (found.compared_with) miss.compared_with = format_rfc3339(*found.compared_with);
    miss.cache = found.cache;
    const std::string why = why::to_text(miss, SystemClock().now());
    const bool fetches = begun.ingredients.kind == "image" || begun.ingredients.kind == "source";
    if (!fetches && expects() && is_expected(place)) {
        static_cast<void>(store_.add_miss(build_, why::to_json(miss)));
        return fail(Code::failed_precondition, Blame::user, "expected to be cached, but has to run: {}", why)
            .with_hint("--expect-cached was given; cooper why shows more");
    }
    const std::string shown = "ran: " + why;
    context.progress.sink().emit(
        StatusEvent{.id = shown, .vertex = vertex.digest, .name = shown, .timestamp = SystemClock().now()});
    // One write for both.
    static_cast<void>(store_.database().transaction([&]() -> Result<> {
        TRY(store_.add_miss(build_, why::to_json(miss)));
        begun = note();
        return {};
    }));
    return begun;
}

store::StepRecord StepNotes::to_record(const why::Ingredients& ingredients) {
    std::vector<std::string> manifests;
    for (const auto& input : ingredients.inputs) {
        if (!input.files.empty()) manifests.push_back(input.files);
    }
    return {.project = ingredients.project,
            .stage = why::place_of(ingredients.name).stage,
            .text = codec::sha256_of(ingredients.text).hex().substr(0, 32),
            .result = ingredients.result,
            .manifests = join(manifests, " "),
            .data = why::to_json(ingredients)};
}

void StepNotes::end(const Step& step, Begun begun, const solver::SharedResult& result, solver::OpContext& /*context*/) {
    why::Ingredients& ingredients = begun.ingredients;
    if (ingredients.kind == "local") return;
    ingredients.ending.clear();
    ingredients.result = state_of(result);
    const llb::LoadedVertex& vertex = step.plan.graph.vertices[step.index];
    if (vertex.inputs.empty()) {
        auto pins = pins_.lock();
        if (const auto pin = pins->find(vertex.digest); pin != pins->end()) ingredients.result = pin_state(pin->second);
    }
    const auto added = store_.replace_step(begun.record, to_record(ingredients));
    if (!added) log::debug("a step was not noted", {{"error", added.error().to_string()}});
}

void StepNotes::end_without_result(Begun begun, const Error& error, const Stop& stop) {
    if (begun.record == 0) return;
    why::Ingredients& ingredients = begun.ingredients;
    {
        // Who fails first stops the others.
        auto failed = failed_.lock();
        if (!error.is_cancelled() && !stop.stop_requested()) {
            ingredients.ending = why::kFailed;
            if (failed->empty()) *failed = ingredients.name;
        } else if (failed->empty()) {
            ingredients.ending = why::kInterrupted;
        } else {
            ingredients.ending = why::kStopped;
            ingredients.stopped_by = *failed;
        }
    }
    const auto noted = store_.replace_step(begun.record, to_record(ingredients));
    if (!noted) log::debug("the end of a step was not noted", {{"error", noted.error().to_string()}});
}

// ---- comparing

std::optional<why::Ingredients> StepNotes::record_of(const std::string& state, Side side) {
    if (state.empty() || state == "local" || state == "scratch") return std::nullopt;
    const auto record = store_.find_step_of(side == Side::here ? state : travel_.local_state(state));
    auto step = record && *record ? why::parse_ingredients((*record)->data) : std::nullopt;
    if (side == Side::here) return step;
    return step ? travel_.portable(std::move(*step)) : travel_.record_of(state);
}

std::optional<why::Cause> StepNotes::compare_files(const why::InputPart& now, const why::InputPart& then, Side side,
                                                   const Stop& stop) {
    if (now.files.empty() || then.files.empty() || now.files == then.files) return std::nullopt;
    const auto after = store_.manifest(now.files);
    if (!after || !*after) return std::nullopt;
    auto before = store_.manifest(then.files).value_or(std::nullopt);
    if (!before && side == Side::caches) before = travel_.list(then.files, stop);
    if (!before) return std::nullopt;
    auto files_now = why::unpack(**after);
    auto files_then = why::unpack(*before);
    if (!files_now || !files_then) return std::nullopt;
    if (side == Side::caches) {
        why::shorten(*files_now);
        why::shorten(*files_then);
    }
    auto cause = why::cause_in_files(*files_now, *files_then);
    if (!cause) return std::nullopt;
    if (!now.is_local) {
        const why::Place place = why::place_of(now.step);
        cause->where = place.stage.empty() ? now.step : "stage " + place.stage;
    } else if (now.step != "context") {
        cause->where = "context " + now.step;
    }
    return cause;
}

std::optional<why::Cause> StepNotes::compare_records(const Pair& pair, int depth, const Stop& stop) {
    if (depth > kMaxDepth) return std::nullopt;
    const auto& [now, then, side] = pair;
    if (auto cause = why::cause_in_text(now, then)) return cause;
    if (const auto input = why::differing_input(now, then)) {
        const why::InputPart& in_now = now.inputs[*input];
        const why::InputPart& in_then = then.inputs[*input];
        if (in_now.is_local) {
            if (auto cause = compare_files(in_now, in_then, side, stop)) return cause;
        }
        if (auto cause = why::cause_in_image(in_now, in_then)) return cause;
        const auto from_now = record_of(in_now.state, side);
        const auto from_then = record_of(in_then.state, side);
        if (from_now && from_then) {
            if (auto cause = compare_records({*from_now, *from_then, side}, depth + 1, stop)) {
                if (cause->step.empty()) cause->step = from_now->name;
                return cause;
            }
        }
        if (auto cause = compare_files(in_now, in_then, side, stop)) return cause;
        return why::Cause{.kind = why::CauseKind::input, .what = in_now.step};
    }
    return why::cause_in_values(now, then);
}

why::Cause StepNotes::explain_source(const Step& step, const Pair& pair, std::size_t input,
                                     const std::optional<why::Ingredients>& from_then, StepText& text) {
    const Step source{.plan = step.plan,
                      .index = step.plan.graph.vertices[step.index].inputs[input].vertex,
                      .inputs = {},
                      .contents = {},
                      .environment = step.environment,
                      .platform = step.platform,
                      .secret_keys = step.secret_keys};
    why::Ingredients source_now = ingredients_of(source, text);
    const std::string name = source_now.name;
    if (pair.side == Side::caches) source_now = travel_.portable(std::move(source_now));
    if (from_then) {
        if (auto cause = why::cause_in_text(source_now, *from_then)) {
            cause->step = name;
            return *cause;
        }
    }
    if (auto cause = why::cause_in_image(pair.now.inputs[input], pair.then.inputs[input])) return *cause;
    return {.kind = why::CauseKind::source, .what = pair.now.inputs[input].step};
}

std::optional<why::Cause> StepNotes::explain_input(const Step& step, const Pair& pair, std::size_t input,
                                                   StepText& text, const Stop& stop) {
    const llb::LoadedVertex& vertex = step.plan.graph.vertices[step.index];
    const llb::LoadedVertex& from = step.plan.graph.vertices[vertex.inputs[input].vertex];
    const why::InputPart& in_now = pair.now.inputs[input];
    const why::InputPart& in_then = pair.then.inputs[input];
    const Side side = pair.side;
    if (in_now.is_local != in_then.is_local) {
        return why::Cause{
            .kind = why::CauseKind::setting, .what = "what it reads", .before = in_then.step, .after = in_now.step};
    }
    if (in_now.is_local) {
        if (auto cause = compare_files(in_now, in_then, side, stop)) return cause;
        return why::Cause{.kind = why::CauseKind::file, .change = "content"};
    }
    // A source that was fetched only now is still what it was elsewhere, or is not.
    if (side == Side::here || !from.inputs.empty()) {
        // It ran in this build: what made it run made this one.
        std::optional<Ran> ran;
        {
            auto all = ran_.lock();
            if (const auto found = all->find(from.digest); found != all->end()) ran = found->second;
        }
        if (ran && ran->cause.kind == why::CauseKind::not_built) {
            // The cache did not have that result, but has a list of what was read of it.
            if (auto cause = compare_files(in_now, in_then, side, stop)) return cause;
        }
        if (ran) {
            why::Cause cause = ran->cause;
            if (cause.step.empty() && cause.kind != why::CauseKind::base_image) cause.step = ran->name;
            return cause;
        }
    }
    const why::Place place_now = why::place_of(in_now.step);
    const why::Place place_then = why::place_of(in_then.step);
    const auto from_then = record_of(in_then.state, side);
    const std::string text_then = from_then ? from_then->text : place_then.text;
    const bool is_written =
        side == Side::here ? text.all_texts().contains(text_then) : why::portable(text.all_texts()).contains(text_then);
    // An image without a record has no words to look for.
    if ((from_then || (in_then.image.empty() && side == Side::here)) && !is_written) {
        const bool same_place = place_now.number == place_then.number && place_now.stage == place_then.stage;
        why::Cause cause{.kind = same_place ? why::CauseKind::instruction : why::CauseKind::removed_step,
                         .before = text_then};
        if (same_place) {
            cause.after = place_now.text;
            cause.step = in_now.step;
        }
        return cause;
    }
    if (from.inputs.empty()) return explain_source(step, pair, input, from_then, text);
    if (const auto from_now = record_of(in_now.state, side); from_now && from_then) {
        if (auto cause = compare_records({*from_now, *from_then, side}, 0, stop)) {
            if (cause->step.empty() && cause->kind != why::CauseKind::base_image) cause->step = in_now.step;
            return cause;
        }
    }
    if (auto cause = compare_files(in_now, in_then, side, stop)) return cause;
    return why::Cause{.kind = why::CauseKind::input, .what = in_now.step};
}

std::optional<StepNotes::Found> StepNotes::explain_by_caches(const Step& step, const why::Ingredients& own,
                                                             StepText& text, const Stop& stop) {
    const llb::LoadedVertex& vertex = step.plan.graph.vertices[step.index];
    why::Ingredients now = travel_.portable(own);
    // Names are for people who see this build.
    now.name = own.name;
    for (std::size_t i = 0; i < now.inputs.size(); ++i) now.inputs[i].step = own.inputs[i].step;
    const std::set<std::string> texts = why::portable(text.all_texts());
    std::optional<StepTravel::Found> best;
    int most = 0;
    for (auto& one : travel_.find(why::place_of(now.name).stage, now.text, stop)) {
        const int likeness = why::likeness(now, one.step->step, texts);
        if (likeness <= most) continue;
        most = likeness;
        best = std::move(one);
    }
    if (!best) return std::nullopt;
    const why::Ingredients& then = best->step->step;
    const auto found = [&](why::Cause cause) {
        // What this build was given it may show.
        const auto given = std::ranges::find(own.variables, cause.what, &why::Variable::name);
        if (cause.kind == why::CauseKind::argument && given != own.variables.end() && given->is_given)
            cause.after = given->given;
        return Found{std::move(cause), best->step->created, best->cache};
    };
    const Pair pair{now, then, Side::caches};
    if (auto cause = why::cause_in_text(now, then)) return found(std::move(*cause));
    if (const auto input = why::differing_input(now, then)) {
        if (auto cause = explain_input(step, pair, *input, text, stop)) return found(std::move(*cause));
    }
    if (auto cause = why::cause_in_values(now, then)) return found(std::move(*cause));
    if (then.builder != now.builder)
        return found({.kind = why::CauseKind::builder, .before = then.builder, .after = now.builder});
    // An input whose result is not in the cache, and that ran here, may have given another one.
    for (std::size_t i = 0; i < std::min(now.inputs.size(), then.inputs.size()); ++i) {
        if (!then.inputs[i].state.empty() || !then.inputs[i].content.empty()) continue;
        auto all = ran_.lock();
        const auto ran = all->find(step.plan.graph.vertices[vertex.inputs[i].vertex].digest);
        if (ran == all->end()) continue;
        why::Cause cause = ran->second.cause;
        if (cause.step.empty()) cause.step = ran->second.name;
        return found(std::move(cause));
    }
    if (auto cause = why::cause_in_hidden(now, then)) return found(std::move(*cause));
    return found({.kind = why::CauseKind::pruned, .what = "the cache"});
}

std::optional<StepNotes::Found> StepNotes::explain_as_unreached(const Step& step) {
    const llb::LoadedVertex& vertex = step.plan.graph.vertices[step.index];
    auto all = ran_.lock();
    for (const auto& input : vertex.inputs) {
        const auto ran = all->find(step.plan.graph.vertices[input.vertex].digest);
        if (ran == all->end() || !ran->second.was_unfinished) continue;
        why::Cause cause = ran->second.cause;
        if (cause.step.empty()) cause.step = ran->second.name;
        return Found{.cause = std::move(cause), .was_unfinished = true};
    }
    return std::nullopt;
}

StepNotes::Found StepNotes::explain(const Step& step, const why::Ingredients& now, StepText& text,
                                    solver::OpContext& context) {
    const llb::LoadedVertex& vertex = step.plan.graph.vertices[step.index];
    if (vertex.metadata.ignore_cache) return {.cause = {.kind = why::CauseKind::no_cache}};
    const std::string stage = why::place_of(now.name).stage;
    std::vector<store::StepRecord> records =
        store_.find_steps(now.project, stage, codec::sha256_of(now.text).hex().substr(0, 32))
            .value_or(std::vector<store::StepRecord>());

    std::vector<Candidate> finished;
    std::vector<Candidate> unfinished;
    bool any_of_stage = false;
    bool any_alike = false;  // which has been met: the newest that is this step in everything
    for (auto& record : records) {
        const bool gave_nothing = record.result == store::kUnfinished;
        // Steps of this build say nothing of what was there before.
        if (gave_nothing && record.created >= began_) continue;
        if (record.project == now.project && record.stage == stage && record.created < began_) any_of_stage = true;
        auto then = why::parse_ingredients(record.data);
        if (!then) continue;
        const int likeness = why::likeness(now, *then, text.all_texts());
        if (likeness <= 0) continue;
        const bool alike = !any_alike && !why::cause_in_text(now, *then) && !why::differing_input(now, *then) &&
                           !why::cause_in_values(now, *then);
        if (alike && gave_nothing) {
            return {.cause = {.kind = why::CauseKind::unfinished, .what = then->stopped_by, .change = then->ending},
                    .compared_with = record.created,
                    .was_unfinished = true};
        }
        any_alike = any_alike || alike;
        (gave_nothing ? unfinished : finished).push_back({std::move(record), std::move(*then), likeness});
    }
    for (auto* candidates : {&finished, &unfinished}) {
        std::stable_sort(candidates->begin(), candidates->end(),
                         [](const Candidate& a, const Candidate& b) { return a.likeness > b.likeness; });
    }
    if (!finished.empty()) return explain_by(finished, step, now, text, context.stop);
    // Fetching something for the first time needs no explanation from elsewhere.
    const bool ask = travel_.has_sources() && !vertex.inputs.empty();
    if (ask) {
        if (auto found = explain_by_caches(step, now, text, context.stop)) return std::move(*found);
    }
    if (!unfinished.empty()) {
        Found found = explain_by(unfinished, step, now, text, context.stop);
        found.was_unfinished = true;
        return found;
    }
    if (auto found = explain_as_unreached(step)) return std::move(*found);
    // The stage is known and this step is not: it was written since.
    if (any_of_stage || (ask && travel_.knows_stage(stage)))
        return {.cause = {.kind = why::CauseKind::instruction, .after = now.text}};
    return {.cause = {.kind = why::CauseKind::not_built, .what = ask ? travel_.problem() : std::string()}};
}

StepNotes::Found StepNotes::explain_by(const std::vector<Candidate>& candidates, const Step& step,
                                       const why::Ingredients& now, StepText& text, const Stop& stop) {
    const llb::LoadedVertex& vertex = step.plan.graph.vertices[step.index];
    const Candidate* best = &candidates.front();
    // Of equally near ones the one with the fewest other files.
    std::size_t fewest = SIZE_MAX;
    for (std::size_t i = 0; i < std::min(kMaxClose, candidates.size()); ++i) {
        const Candidate& one = candidates[i];
        if (one.likeness < candidates.front().likeness) break;
        const auto input = why::differing_input(now, one.then);
        if (!input || !now.inputs[*input].is_local) break;
        const auto size = store_.manifest(one.then.inputs[*input].files);
        if (!size || !*size || (*size)->size() > kMaxClosePacked) break;
        const auto cause = compare_files(now.inputs[*input], one.then.inputs[*input], Side::here, stop);
        if (!cause || cause->others >= fewest) continue;
        fewest = cause->others;
        best = &one;
    }
    // What later builds are measured by stays, however many others are tried.
    const bool finished = best->record.result != store::kUnfinished;
    if (finished && best->record.project == now.project) static_cast<void>(store_.add_step(best->record));
    const why::Ingredients& then = best->then;
    const std::optional<Timestamp> when = best->record.created;

    if (auto cause = why::cause_in_text(now, then)) return {.cause = std::move(*cause), .compared_with = when};
    if (const auto input = why::differing_input(now, then)) {
        if (auto cause = explain_input(step, {now, then, Side::here}, *input, text, stop))
            return {.cause = std::move(*cause), .compared_with = when};
    }
    if (auto cause = why::cause_in_values(now, then)) {
        if (now.kind == "source")
            cause = why::Cause{.kind = why::CauseKind::source, .what = why::place_of(now.name).text};
        return {.cause = std::move(*cause), .compared_with = when};
    }
    if (then.builder != now.builder)
        return {.cause = {.kind = why::CauseKind::builder, .before = then.builder, .after = now.builder},
                .compared_with = when};
    const auto chain = store::Chain::parse(then.result);
    const bool there = chain && !chain->empty() && store_.exists(*chain).value_or(false);
    if (vertex.inputs.empty() || !there) return {.cause = {.kind = why::CauseKind::pruned}, .compared_with = when};
    return {.cause = {.kind = why::CauseKind::unknown}, .compared_with = when};
}

}  // namespace cooper::engine
