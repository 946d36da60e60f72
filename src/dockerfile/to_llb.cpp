#include "dockerfile/to_llb.hpp"

#include "base/text.hpp"
#include "base/work_pool.hpp"
#include "codec/pattern_matcher.hpp"
#include "dockerfile/convert_args.hpp"
#include "dockerfile/convert_context.hpp"
#include "dockerfile/convert_dispatch.hpp"
#include "dockerfile/convert_epoch.hpp"
#include "dockerfile/convert_state.hpp"
#include "dockerfile/lint_practices.hpp"
#include "dockerfile/lint_text.hpp"
#include "dockerfile/parse.hpp"
#include "dockerfile/shell_lex.hpp"
#include "frontend/git_ref.hpp"
#include "oci/reference.hpp"

#include <algorithm>
#include <ranges>
#include <span>
#include <unordered_map>
#include <unordered_set>

namespace cooper::dockerfile {

namespace {

constexpr std::size_t kMaxStages = 10'000;
constexpr std::size_t kMaxParallelResolves = 8;

using Reachable = std::unordered_set<const StageState*>;

std::vector<std::string> common_images() {
    std::vector<std::string> out;
    for (const char* name : {"alpine", "busybox", "centos", "debian", "golang", "ubuntu", "fedora"}) {
        out.emplace_back(name);
        out.push_back(std::string(name) + ":latest");
    }
    return out;
}

Error with_suggestion(Error error, std::string_view word, const std::vector<std::string>& candidates) {
    const auto near = nearest(word, candidates);
    if (!near || *near == word) return error;
    return error.with_hint("did you mean " + *near + "?");
}

class Converter {
public:
    Converter(const ConvertOptions& options, frontend::Bridge& bridge, Stop stop)
        : options_(options), bridge_(bridge), stop_(std::move(stop)) {}

    Result<BuildPlan> plan(const std::string& text) {
        StageState* target = TRY(convert(text));
        return finish(*target);
    }

    Result<Outline> outline(const std::string& text) {
        StageState* target = TRY(convert(text));
        std::vector<const OutlineScope*> scopes;
        for (const StageState* stage : nearest_first(*target)) scopes.push_back(&stage->outline);
        Outline outline = merge_outline(global_outline_, scopes);
        outline.name = target->stage.name;
        outline.description = target->stage.description;
        return outline;
    }

    LintResult lint(const std::string& text) {
        // Without a target everything is looked at, needed or not.
        all_stages_ = options_.target.empty();
        scope_ = LintScope::check;
        options_.warn = nullptr;  // they are the result
        auto target = convert(text);
        LintResult out;
        out.warnings = linter_.warnings();
        if (!target) out.error = std::move(target).error();
        return out;
    }

private:
    Result<StageState*> convert(const std::string& text) {
        if (text.empty()) return bad_input("the Dockerfile cannot be empty");
        TRY(read(text));
        TRY(prepare_arguments());
        TRY(register_stages());
        StageState* target = TRY(find_target());
        check_practices(*target);
        TRY(link_stages());
        const Reachable reachable = TRY(resolve_stages(*target));
        TRY(dispatch_stages(reachable));
        TRY(linter_.verdict());
        return target;
    }

    // --- reading ---

    Result<> read(const std::string& text) {
        auto info = std::make_shared<llb::SourceInfo>();
        info->filename = options_.filename;
        info->data = text;
        info->language = "Dockerfile";
        source_ = std::move(info);
        ParsedFile file = TRY(parse(text, options_.filename));
        escape_ = file.escape;
        LintConfig config = TRY_CONTEXT(lint_config(file), "failed to parse check options");
        config.scope = scope_;
        linter_ = Linter(std::move(config), [this](const auto& warning) {
            if (options_.warn) options_.warn(to_event(warning, options_.filename));
        });
        StageReading reading = take_stages(file);
        lint_text(linter_, file, reading.list);
        TRY(verdict(reading, file));
        program_ = std::move(reading.list);
        if (program_.stages.empty()) return bad_input("dockerfile contains no stages to build");
        if (program_.stages.size() > kMaxStages) {
            return at(bad_input("the Dockerfile has {} stages, the limit is {}", program_.stages.size(), kMaxStages),
                      program_.stages[kMaxStages].location);
        }
        lint_stages(linter_, program_);
        return {};
    }

    [[nodiscard]] Result<LintConfig> lint_config(const ParsedFile& file) const {
        if (options_.check_options) return LintConfig::parse(*options_.check_options);
        const auto given = options_.build_args.find("BUILDKIT_DOCKERFILE_CHECK");
        if (given != options_.build_args.end()) return LintConfig::parse(given->second);
        return LintConfig::parse_directive(file.check);
    }

    [[nodiscard]] Error at(Error error, const Lines& lines) const {
        return with_excerpt(fit_to_show(std::move(error)), options_.filename, source_->data, lines);
    }

    [[nodiscard]] ShellLex lex() const { return ShellLex(escape_); }

    // --- platforms and arguments ---

    Result<> prepare_arguments() {
        build_platforms_ = options_.build_platforms;
        if (build_platforms_.empty() && options_.target_platform) build_platforms_ = {*options_.target_platform};
        if (build_platforms_.empty()) build_platforms_ = {oci::host_platform()};
        implicit_target_ = !options_.target_platform;
        target_platform_ = options_.target_platform.value_or(build_platforms_.front());
        std::string target = options_.target.empty() ? program_.stages.back().name : options_.target;
        global_args_ = automatic_args(build_platforms_.front(), target_platform_, options_.build_args, target);
        const llb::EnvList automatic = global_args_;
        for (const Instruction& instruction : program_.meta_args) {
            auto added = add_meta_args(std::get<ArgCommand>(instruction.command), instruction.location);
            if (!added) return at(std::move(added).error(), instruction.location);
        }
        lint_bases(linter_, program_, lex(), automatic, global_args_);
        return resolve_epoch();
    }

    Result<> add_meta_args(const ArgCommand& arg, const Lines& location) {
        for (const auto& pair : arg.args) {
            std::optional<std::string> value = pair.value;
            std::set<std::string> uses;
            if (const auto given = options_.build_args.find(pair.key); given != options_.build_args.end()) {
                value = given->second;
            } else if (value) {
                Expansion expansion = TRY(lex().expand(*value, global_args_));
                value = std::move(expansion.text);
                uses = std::move(expansion.matched);
            }
            if (value) global_args_.set(pair.key, *value);
            global_outline_.add_arg(pair, value.value_or(""), location, std::move(uses));
        }
        return {};
    }

    // Given, or the time of what is named. From here on it is a number for whoever asks for the argument.
    Result<> resolve_epoch() {
        const std::string key = "SOURCE_DATE_EPOCH";
        const auto given = options_.build_args.find(key);
        const bool is_given = given != options_.build_args.end();
        const std::string value = is_given ? given->second : std::string(global_args_.get(key).value_or(""));
        global_args_.erase(key);
        if (is_given) options_.build_args.erase(given);
        if (!value.empty()) epoch_seconds_ = parse_int(value);
        if (!value.empty() && !epoch_seconds_) epoch_seconds_ = TRY(epoch_of(value));
        if (!epoch_seconds_) return {};  // given empty: resets what the file says
        const std::string seconds = std::to_string(*epoch_seconds_);
        if (is_given) options_.build_args[key] = seconds;
        if (!is_given) global_args_.set(key, seconds);
        return {};
    }

    Result<std::optional<std::int64_t>> epoch_of(const std::string& value) {
        const ShellLex words = lex();
        const EpochScope scope{.options = options_,
                               .stages = program_.stages,
                               .global_args = global_args_,
                               .lex = words,
                               .platform = target_platform_};
        std::optional<Lines> where;
        auto source = epoch_source(value, scope, bridge_, where, stop_);
        if (!source) return where ? at(std::move(source).error(), *where) : std::move(source).error();
        const llb::Definition definition =
            TRY(llb::marshal_definition(source->state, to_llb_platform(target_platform_)));
        return bridge_.time_of(definition, source->log_name, stop_);
    }

    // --- stages ---

    StageState& add_state(std::unique_ptr<StageState> state) {
        StageState& stage = *state;
        states_.push_back(std::move(state));
        // Names are compared as written here, and folded only where an instruction says --from.
        if (const auto base = by_name_.find(stage.base_name); base != by_name_.end()) stage.base = base->second;
        if (!stage.stage.name.empty()) by_name_[to_lower(stage.stage.name)] = &stage;
        return stage;
    }

    [[nodiscard]] StageState* find_by_name(std::string_view name) const {
        const auto found = by_name_.find(to_lower(name));
        return found == by_name_.end() ? nullptr : found->second;
    }

    [[nodiscard]] std::vector<std::string> names() const {
        std::vector<std::string> out;
        for (const auto& state : states_) {
            if (!state->counter.stage.empty()) out.push_back(state->counter.stage);
        }
        return out;
    }

    Result<> register_stages() {
        for (std::size_t i = 0; i < program_.stages.size(); ++i) {
            Lines location = program_.stages[i].location;
            auto added = register_stage(std::move(program_.stages[i]), i);
            if (!added) return at(std::move(added).error(), location);
        }
        return {};
    }

    Result<> register_stage(Stage parsed, std::size_t index) {
        auto state = std::make_unique<StageState>();
        Expansion base_name = TRY(lex().expand(parsed.base_name, global_args_));
        state->base_name = std::move(base_name.text);
        state->outline.used = std::move(base_name.matched);
        if (state->base_name.empty()) return bad_input("base name ({}) should not be blank", parsed.base_name);
        if (!parsed.platform.empty()) state->platform = TRY(stage_platform(parsed.platform, state->outline.used));
        state->counter.stage = parsed.name;
        state->counter.show_platform = options_.multi_platform;
        state->stage = std::move(parsed);
        const std::string name = state->stage.name;
        if (!name.empty()) {
            auto named = TRY(find_named_context(options_, name, context_platform(*state)));
            if (named) {
                state->named_context = std::move(named);
                add_state(std::move(state)).base = nullptr;
                return {};
            }
        } else {
            state->counter.stage = "stage-" + std::to_string(index);
        }
        StageState& stage = add_state(std::move(state));
        int total = stage.base_name != "scratch" && stage.base == nullptr ? 1 : 0;
        for (const Instruction& instruction : stage.stage.commands) {
            if (is_step(instruction.command)) ++total;
        }
        stage.counter.total = total;
        stage.ignore_cache = is_no_cache(name);
        return {};
    }

    static bool is_step(const Command& command) {
        return std::holds_alternative<AddCommand>(command) || std::holds_alternative<CopyCommand>(command) ||
               std::holds_alternative<RunCommand>(command) || std::holds_alternative<WorkdirCommand>(command);
    }

    [[nodiscard]] bool is_no_cache(std::string_view name) const {
        if (!options_.no_cache) return false;
        if (options_.no_cache->empty()) return true;
        return std::ranges::any_of(*options_.no_cache,
                                   [&](const std::string& wanted) { return equal_ignoring_case(wanted, name); });
    }

    [[nodiscard]] oci::Platform context_platform(const StageState& state) const {
        if (state.platform) return *state.platform;
        return options_.target_platform.value_or(oci::host_platform());
    }

    Result<oci::Platform> stage_platform(const std::string& text, std::set<std::string>& used) {
        Expansion expansion =
            TRY_CONTEXT(lex().expand(text, global_args_), "failed to process arguments for platform {}", text);
        used.merge(expansion.matched);
        const std::string value = std::move(expansion.text);
        if (value.empty()) {
            Error error = bad_input("empty platform value from expression {}", text);
            std::string word = text;
            std::erase_if(word, [](char c) { return c == '$' || c == '{' || c == '}'; });
            return with_suggestion(std::move(error), word, arg_names());
        }
        return TRY_CONTEXT(oci::parse_platform(value), "failed to parse platform {}", text);
    }

    [[nodiscard]] std::vector<std::string> arg_names() const {
        std::vector<std::string> out;
        for (const auto& [key, value] : global_args_.entries()) out.push_back(key);
        return out;
    }

    Result<StageState*> find_target() {
        if (options_.target.empty()) return states_.back().get();
        StageState* target = find_by_name(options_.target);
        if (target != nullptr) return target;
        return with_suggestion(
            fail(Code::not_found, Blame::user, "target stage {} could not be found", quoted(options_.target)),
            options_.target, names());
    }

    void check_practices(const StageState& target) {
        if (!linter_.config().wants_own()) return;
        Practices practices{.stages = {},
                            .target = 0,
                            .context = options_.context,
                            .named_contexts = options_.named_contexts,
                            .measure = [this]() -> std::optional<frontend::ContextSize> {
                                auto size = bridge_.measure_local(options_.context.local_name, stop_);
                                return size ? std::move(*size) : std::nullopt;
                            }};
        std::unordered_map<const StageState*, std::size_t> index;
        for (const auto& state : states_) {
            PracticeStage stage{.stage = &state->stage, .base_name = state->base_name, .base = {}, .replaced = {}};
            if (const auto base = index.find(state->base); base != index.end()) stage.base = base->second;
            stage.replaced = state->named_context.has_value();
            index[state.get()] = practices.stages.size();
            if (state.get() == &target) practices.target = practices.stages.size();
            practices.stages.push_back(std::move(stage));
        }
        lint_practices(linter_, practices);
    }

    // --- who reads whom ---

    Result<> link_stages() {
        const std::size_t count = states_.size();  // images named by instructions are added behind
        for (std::size_t i = 0; i < count; ++i) {
            StageState& stage = *states_[i];
            for (Instruction& instruction : stage.stage.commands) {
                Lines location = instruction.location;
                auto command = to_command(stage, std::move(instruction));
                if (!command) return at(std::move(command).error(), location);
                stage.commands.push_back(std::move(*command));
            }
            stage.stage.commands.clear();
        }
        TRY(check_loops());
        if (states_.size() == 1) states_.front()->counter.stage.clear();
        return {};
    }

    Result<StageState*> add_image(const std::string& name, const Lines& location) {
        if (states_.size() >= 2 * kMaxStages) return bad_input("more than {} images are read", kMaxStages);
        auto image = std::make_unique<StageState>();
        image->base_name = name;
        image->stage.base_name = name;
        image->stage.location = location;
        image->unregistered = true;
        return &add_state(std::move(image));
    }

    Result<StageCommand> to_command(StageState& stage, Instruction instruction) {
        StageCommand out;
        const Lines location = instruction.location;
        if (const auto* copy = std::get_if<CopyCommand>(&instruction.command); copy != nullptr && !copy->from.empty()) {
            StageState* from = TRY(copy_source(copy->from, location));
            out.sources.push_back(from);
        } else if (const auto* run = std::get_if<RunCommand>(&instruction.command)) {
            for (const std::string& from : mount_sources(*run)) {
                const std::string name = from.empty() ? "scratch" : from;
                StageState* found = find_by_name(name);
                if (found == nullptr) found = TRY(add_image(name, location));
                out.sources.push_back(found);
            }
        }
        for (StageState* source : out.sources) {
            const bool known = std::ranges::any_of(stage.deps, [&](const auto& dep) { return dep.first == source; });
            if (!known) stage.deps.emplace_back(source, location);
        }
        out.instruction = std::move(instruction);
        return out;
    }

    Result<StageState*> copy_source(const std::string& from, const Lines& location) {
        const std::string expanded = TRY(lex().expand_word(from, llb::EnvList{}));
        if (expanded != from) {
            return bad_input(
                "variable expansion is not supported for --from, define a new stage with FROM using ARG from global "
                "scope as a workaround");
        }
        if (const auto index = parse_int(from)) {
            if (*index < 0 || static_cast<std::uint64_t>(*index) >= states_.size()) {
                return bad_input("invalid stage index {}", *index);
            }
            return states_[static_cast<std::size_t>(*index)].get();
        }
        StageState* found = find_by_name(from);
        if (found == nullptr) found = TRY(add_image(from, location));
        return found;
    }

    // What a stage reads, in the order they are visited: what it copies or mounts from, then its base.
    static std::pair<const StageState*, Lines> edge_of(const StageState& stage, std::size_t index) {
        if (index < stage.deps.size()) return stage.deps[index];
        return {stage.base, stage.stage.location};
    }

    using Visit = std::pair<const StageState*, std::size_t>;  // a stage, and how many of its edges were taken

    // All lines that close the loop are marked.
    [[nodiscard]] Error loop_of(std::span<const Visit> loop) const {
        Error error = bad_input("circular dependency detected on stage: {}", loop.front().first->counter.stage);
        std::vector<SourceRange> ranges;
        for (const auto& [stage, taken] : loop) {
            const Lines lines = edge_of(*stage, taken - 1).second;
            ranges.push_back({options_.filename, lines.first, lines.last, 0, 0});
        }
        std::ranges::sort(ranges, {}, &SourceRange::first_line);
        for (const SourceRange& range : ranges) error = error.with_detail(range);
        return error.with_detail(Excerpt{excerpt(options_.filename, source_->data, ranges)});
    }

    // Depth first without recursion; a stage met again while still open closes a loop.
    Result<> check_loops() {
        enum class Mark : std::uint8_t { open, done };
        std::unordered_map<const StageState*, Mark> marks;
        for (const auto& root : states_) {
            std::vector<Visit> stack;
            stack.emplace_back(root.get(), 0);
            while (!stack.empty()) {
                auto& [stage, next] = stack.back();
                if (next == 0) {
                    if (marks.contains(stage)) {
                        stack.pop_back();
                        continue;
                    }
                    marks[stage] = Mark::open;
                }
                const std::size_t deps = stage->deps.size() + (stage->base != nullptr ? 1 : 0);
                if (next == deps) {
                    marks[stage] = Mark::done;
                    stack.pop_back();
                    continue;
                }
                const StageState* dep = edge_of(*stage, next).first;
                ++next;
                const auto mark = marks.find(dep);
                if (mark == marks.end()) {
                    stack.emplace_back(dep, 0);
                } else if (mark->second == Mark::open) {
                    const auto from = std::ranges::find(stack, dep, &Visit::first);
                    return loop_of(std::span(from, stack.end()));
                }
            }
        }
        return {};
    }

    // The target and the stages it needs: what a stage is built on before what it copies from.
    static std::vector<const StageState*> nearest_first(const StageState& target) {
        std::vector<const StageState*> out;
        Reachable seen;
        std::vector<const StageState*> open = {&target};
        while (!open.empty()) {
            const StageState* stage = open.back();
            open.pop_back();
            if (!seen.insert(stage).second) continue;
            out.push_back(stage);
            for (const auto& [dep, location] : std::views::reverse(stage->deps)) open.push_back(dep);
            if (stage->base != nullptr) open.push_back(stage->base);
        }
        return out;
    }

    [[nodiscard]] Reachable reachable_from(const StageState& target) const {
        Reachable out;
        for (const StageState* stage : nearest_first(target)) out.insert(stage);
        if (!all_stages_) return out;
        for (const auto& state : states_) out.insert(state.get());
        return out;
    }

    // --- base images ---

    Result<Reachable> resolve_stages(StageState& target) {
        while (true) {
            const Reachable reachable = reachable_from(target);
            TRY(resolve_bases(reachable));
            bool new_deps = false;
            for (std::size_t i = 0; i < states_.size(); ++i) {
                StageState& stage = *states_[i];
                if (!reachable.contains(&stage)) continue;
                if (stage.base != nullptr) stage.platform = stage.base->platform;
                auto added = start_triggers(stage);
                if (!added) return at(std::move(added).error(), stage.stage.location);
                new_deps = new_deps || *added;
            }
            if (!new_deps) return reachable;
            TRY(check_loops());
        }
    }

    Result<> resolve_bases(const Reachable& reachable) {
        std::vector<StageState*> wanted;
        for (const auto& state : states_) {
            if (state->base != nullptr || state->dispatched || state->resolved) continue;
            if (!reachable.contains(state.get())) {
                if (state->base_name != "scratch") {
                    auto parsed = oci::Reference::parse_normalized(state->base_name);
                    if (!parsed) return at(bad_base(*state, parsed.error()), state->stage.location);
                }
                continue;
            }
            state->resolved = true;
            wanted.push_back(state.get());
        }
        TRY(parallel_for(wanted.size(), kMaxParallelResolves, [&](std::size_t i) -> Result<> {
            StageState& stage = *wanted[i];
            auto resolved = resolve_base(stage);
            if (!resolved) return at(std::move(resolved).error(), stage.stage.location);
            if (stage.unregistered) stage.dispatched = true;
            return {};
        }));
        for (const StageState* stage : wanted) {
            if (!stage->pulled) continue;
            lint_base_platform(linter_, stage->stage, stage->base_name, *stage->platform, stage->image.platform);
        }
        return {};
    }

    static Error bad_base(const StageState& stage, const Error& error) {
        return error.with_context("failed to parse stage name " + quoted(stage.base_name));
    }

    void use_scratch(StageState& stage) const {
        stage.state = llb::scratch();
        stage.image = empty_image(target_platform_);
        stage.platform = target_platform_;
    }

    Result<> resolve_base(StageState& stage) {
        if (stage.base_name == "scratch" && !stage.named_context) {
            use_scratch(stage);
            return {};
        }
        const oci::Platform platform = stage.platform.value_or(target_platform_);
        if (stage.named_context) return use_named_stage(stage);
        auto parsed = oci::Reference::parse_normalized(stage.base_name);
        if (!parsed) return bad_base(stage, parsed.error());
        const std::string reference = parsed->canonical();
        const auto named = TRY(find_named_context(options_, reference, platform));
        if (named) return use_named_image(stage, *named, platform);
        return use_image(stage, reference, platform);
    }

    Result<> use_named_stage(StageState& stage) {
        LoadedContext loaded = TRY(load_named_context(*stage.named_context, options_, stage.paths, bridge_, stop_));
        stage.dispatched = true;
        stage.state = std::move(loaded.state);
        if (!loaded.image) return {};
        stage.image = std::move(*loaded.image);
        if (!stage.image.platform.architecture.empty() && !stage.image.platform.os.empty()) {
            stage.platform = stage.image.platform;
        }
        return {};
    }

    Result<> use_named_image(StageState& stage, const NamedContext& named, const oci::Platform& platform) {
        LoadedContext loaded = TRY(load_named_context(named, options_, stage.paths, bridge_, stop_));
        stage.image = loaded.image ? std::move(*loaded.image) : empty_image(platform);
        stage.base_image = stage.image;
        stage.state = std::move(loaded.state);
        stage.state.set_platform(to_llb_platform(oci::normalize(platform)));
        stage.platform = platform;
        return {};
    }

    Result<> use_image(StageState& stage, const std::string& reference, oci::Platform platform) {
        const std::string prefix = options_.multi_platform ? "[" + oci::format_platform_all(platform) + " internal]"
                                                           : std::string("[internal]");
        auto resolved = bridge_.resolve_image_config(reference, to_llb_platform(platform), options_.resolve_mode,
                                                     prefix + " load metadata for " + reference, stop_);
        if (!resolved) {
            std::vector<std::string> candidates = names();
            for (std::string& image : common_images()) candidates.push_back(std::move(image));
            Error error = std::move(resolved).error().with_context(stage.base_name);
            return error.hint().empty() ? with_suggestion(std::move(error), stage.base_name, candidates) : error;
        }
        oci::ImageConfig image =
            TRY_CONTEXT(oci::parse_image_config(resolved->config_json), "failed to parse image config");
        stage.base_image = image;
        image.created.reset();
        if (!stage.platform && implicit_target_) platform = detect_platform(image, platform);
        const oci::Reference full = TRY(oci::Reference::parse_normalized(resolved->reference));
        const std::string pinned =
            resolved->digest.empty() ? full.canonical() : full.with_digest(resolved->digest).canonical();
        const bool no_layers =
            image.diff_ids.empty() && std::ranges::all_of(image.history, &oci::HistoryEntry::empty_layer);
        stage.image = std::move(image);
        stage.platform = platform;
        stage.pulled = !no_layers;
        if (no_layers) {
            stage.state = llb::scratch();
            return {};
        }
        llb::ImageOptions options;
        if (options_.resolve_mode == frontend::ResolveMode::pull) options.resolve_mode = "pull";
        if (options_.resolve_mode == frontend::ResolveMode::local) options.resolve_mode = "local";
        options.constraints.platform = to_llb_platform(platform);
        options.constraints.metadata.description["com.docker.dockerfile.v1.command"] = stage.stage.source_code;
        options.constraints.source = source_;
        options.constraints.ranges = to_llb_ranges(stage.stage.location);
        options.constraints.set_name(step_name(stage.counter, "FROM " + pinned, &platform, nullptr));
        stage.state = llb::image(pinned, std::move(options));
        return {};
    }

    [[nodiscard]] oci::Platform detect_platform(const oci::ImageConfig& image, const oci::Platform& target) const {
        const auto same = [&](const oci::Platform& platform) {
            return platform.os == image.platform.os && platform.architecture == image.platform.architecture;
        };
        if (same(target)) return target;
        const auto found = std::ranges::find_if(build_platforms_, same);
        return found == build_platforms_.end() ? target : *found;
    }

    // --- stages on stages, triggers ---

    static void inherit(StageState& stage) {
        if (stage.base == nullptr) return;
        stage.state = stage.base->state;
        stage.platform = stage.base->platform;
        stage.image = {.created = stage.base->image.created,
                       .author = stage.base->image.author,
                       .platform = stage.base->image.platform,
                       .config = stage.base->image.config};
        stage.image.config.on_build.clear();
        stage.paths = stage.base->paths;
        stage.workdir_set = stage.base->workdir_set;
        stage.build_args = stage.base->build_args;
    }

    // Triggers of the base image or of the stage below become the first commands. True: they read stages
    // or images that nobody has resolved yet.
    Result<bool> start_triggers(StageState& stage) {
        std::vector<std::string> triggers = std::move(stage.image.config.on_build);
        stage.image.config.on_build.clear();
        if (stage.base != nullptr && !stage.on_build_done) {
            for (const StageCommand& command : stage.base->commands) {
                const auto* onbuild = std::get_if<OnbuildCommand>(&command.instruction.command);
                if (onbuild != nullptr) triggers.push_back(onbuild->expression);
            }
            stage.on_build_done = true;
        }
        bool new_deps = false;
        std::vector<StageCommand> commands;
        triggers_ += triggers.size();
        if (triggers_ > kMaxInstructions) return bad_input("more than {} triggers of ONBUILD", kMaxInstructions);
        for (const std::string& trigger : triggers) {
            auto read = parse_trigger(trigger);
            if (!read) {
                // Lines of the trigger are none of this file: the mistake stands where FROM does.
                return Error(read.error().code(), read.error().blame(), read.error().message())
                    .with_context("ONBUILD " + shown(trigger));
            }
            Instruction instruction = std::move(*read);
            instruction.location = stage.stage.location;
            StageCommand command = TRY(to_command(stage, std::move(instruction)));
            command.on_build = true;
            new_deps = new_deps || !command.sources.empty();
            commands.push_back(std::move(command));
        }
        stage.counter.total += static_cast<int>(commands.size());
        stage.commands.insert(stage.commands.begin(), std::make_move_iterator(commands.begin()),
                              std::make_move_iterator(commands.end()));
        return new_deps;
    }

    static Result<Instruction> parse_trigger(const std::string& text) {
        const ParsedFile file = TRY(parse(text, "ONBUILD"));
        if (file.nodes.size() != 1) return bad_input("onbuild trigger should be a single expression");
        return parse_instruction(file.nodes.front());
    }

    // --- conversion ---

    Result<> dispatch_stages(const Reachable& reachable) {
        // Patterns that are none are the business of whoever reads the context.
        auto rules = codec::PatternMatcher::create(options_.context.exclude_patterns);
        const codec::PatternMatcher ignored = rules ? std::move(*rules) : codec::PatternMatcher();
        context_ = llb::deferred([this] { return main_context(); });
        Budget budget;
        const DispatchShared shared{.options = options_,
                                    .global_args = global_args_,
                                    .target_platform = target_platform_,
                                    .escape = escape_,
                                    .build_context = context_,
                                    .source = source_,
                                    .proxy = proxy_args(options_.build_args),
                                    .epoch_seconds = epoch_seconds_,
                                    .linter = linter_,
                                    .budget = budget,
                                    .ignored = ignored};
        for (const auto& state : states_) {
            StageState& stage = *state;
            if (!reachable.contains(&stage) || stage.dispatched) continue;
            inherit(stage);
            stage.dispatched = true;
            if (!stage.platform) stage.platform = target_platform_;
            TRY(check_stop(stop_));
            Dispatcher dispatcher(shared, stage);
            if (auto started = dispatcher.start(); !started) {
                return at(std::move(started).error(), stage.stage.location);
            }
            UsedOnce used_once;
            for (StageCommand& command : stage.commands) {
                const bool has_shell = !stage.image.config.shell.empty();
                auto done = dispatcher.run(command);
                if (!done) return at(std::move(done).error(), command.instruction.location);
                lint_keys(linter_, command.instruction);
                lint_shell_form(linter_, command.instruction,
                                has_shell ? ShellInEffect::chosen : ShellInEffect::standard);
                used_once.see(linter_, command.instruction);
            }
            context_paths_.insert(stage.context_paths.begin(), stage.context_paths.end());
        }
        return {};
    }

    [[nodiscard]] llb::State main_context() const {
        if (options_.context.remote) return *options_.context.remote;
        llb::LocalOptions local;
        local.exclude_patterns = options_.context.exclude_patterns;
        local.follow_paths = follow_paths(context_paths_);
        local.shared_key_hint = options_.context.local_name;
        local.session_id = session_of(options_, options_.context.local_name);
        local.constraints.set_name(internal_name("load build context"));
        return llb::local(options_.context.local_name, std::move(local));
    }

    // A stage says so itself, else the build arguments or the file do, for all or for stages by name.
    [[nodiscard]] bool is_scanned(const StageState& stage, const std::string& key) const {
        std::string value(global_args_.get(key).value_or(""));
        if (const auto given = options_.build_args.find(key); given != options_.build_args.end()) value = given->second;
        for (const auto& arg : stage.build_args) {
            if (arg.key == key && arg.value) value = *arg.value;
        }
        if (const auto flag = frontend::parse_go_bool(value)) return *flag;
        return std::ranges::any_of(split(value, ','), [&](const std::string& name) {
            return !trim(name).empty() && equal_ignoring_case(trim(name), stage.stage.name);
        });
    }

    Result<> add_scans(const StageState& target, BuildPlan& plan) {
        const llb::Platform platform = to_llb_platform(target_platform_);
        if (is_scanned(target, "BUILDKIT_SBOM_SCAN_CONTEXT")) {
            context_paths_.insert("/");
            plan.scans.push_back({"context", TRY(llb::marshal_definition(context_, platform))});
        }
        for (std::size_t i = 0; i < states_.size(); ++i) {
            const StageState& stage = *states_[i];
            if (&stage == &target || !stage.dispatched || stage.unregistered) continue;
            if (!is_scanned(stage, "BUILDKIT_SBOM_SCAN_STAGE")) continue;
            stage.paths->insert("/");
            const std::string name = stage.stage.name.empty() ? std::to_string(i) : stage.stage.name;
            plan.scans.push_back({name, TRY(llb::marshal_definition(stage.state, platform))});
        }
        return {};
    }

    Result<BuildPlan> finish(StageState& target) {
        // The whole of the result is used, by whoever ships it.
        target.paths->insert("/");
        BuildPlan plan;
        for (const auto& [key, value] : options_.labels) target.image.config.labels[key] = value;
        plan.image = whole_image(target);
        if (!implicit_target_) set_platform(plan.image.platform);
        plan.image.platform = oci::normalize(plan.image.platform);
        plan.platform = plan.image.platform;
        plan.base_image = std::move(root_of(target).base_image);
        plan.epoch_seconds = epoch_seconds_;
        plan.ignore_cache = target.ignore_cache;
        plan.context_paths = context_paths_;
        plan.target_name = target.counter.stage;
        TRY(add_scans(target, plan));
        plan.definition = TRY(llb::marshal_definition(target.state, to_llb_platform(target_platform_)));
        return plan;
    }

    static StageState& root_of(StageState& stage) {
        StageState* root = &stage;
        while (root->base != nullptr) root = root->base;
        return *root;
    }

    // With what it has of the stages below: their history, and the layers of the image at the bottom.
    static oci::ImageConfig whole_image(StageState& target) {
        if (target.base == nullptr) return std::move(target.image);
        std::vector<const StageState*> chain;
        for (const StageState* stage = &target; stage != nullptr; stage = stage->base) chain.push_back(stage);
        oci::ImageConfig image = std::move(root_of(target).image);
        image.created = target.image.created;
        image.author = target.image.author;
        image.platform = target.image.platform;
        image.config = std::move(target.image.config);
        for (auto stage = chain.rbegin() + 1; stage != chain.rend(); ++stage) {
            const auto& history = (*stage)->image.history;
            image.history.insert(image.history.end(), history.begin(), history.end());
        }
        return image;
    }

    void set_platform(oci::Platform& platform) const {
        const bool same = platform.os == target_platform_.os && platform.architecture == target_platform_.architecture;
        platform.os = target_platform_.os;
        platform.architecture = target_platform_.architecture;
        if (!target_platform_.variant.empty() || !same) platform.variant = target_platform_.variant;
        if (!target_platform_.os_version.empty() || !same) platform.os_version = target_platform_.os_version;
        if (!target_platform_.os_features.empty()) platform.os_features = target_platform_.os_features;
    }

    ConvertOptions options_;
    frontend::Bridge& bridge_;
    Stop stop_;

    llb::SourceFile source_;
    char escape_ = '\\';
    StageList program_;
    Linter linter_{LintConfig{}};
    std::vector<oci::Platform> build_platforms_;
    oci::Platform target_platform_;
    bool implicit_target_ = false;
    bool all_stages_ = false;
    LintScope scope_ = LintScope::build;
    llb::EnvList global_args_;
    OutlineScope global_outline_;
    std::optional<std::int64_t> epoch_seconds_;

    std::size_t triggers_ = 0;  // of ONBUILD, in all stages

    std::vector<std::unique_ptr<StageState>> states_;
    std::unordered_map<std::string, StageState*> by_name_;
    std::set<std::string> context_paths_;
    llb::State context_;
};

}  // namespace

Result<BuildPlan> to_llb(const std::string& dockerfile, const ConvertOptions& options, frontend::Bridge& bridge,
                         Stop stop) {
    return Converter(options, bridge, std::move(stop)).plan(dockerfile);
}

Result<Outline> outline_of(const std::string& dockerfile, const ConvertOptions& options, frontend::Bridge& bridge,
                           Stop stop) {
    return Converter(options, bridge, std::move(stop)).outline(dockerfile);
}

LintResult lint(const std::string& dockerfile, const ConvertOptions& options, frontend::Bridge& bridge, Stop stop) {
    return Converter(options, bridge, std::move(stop)).lint(dockerfile);
}

}  // namespace cooper::dockerfile
