#include "ops/file_op.hpp"

#include "base/text.hpp"
#include "codec/path_match.hpp"
#include "codec/sha256.hpp"
#include "layer/copy.hpp"
#include "ops/unpack.hpp"
#include "snapshot/layer_builder.hpp"

#include <algorithm>
#include <optional>
#include <unistd.h>

namespace cooper::ops {

solver::CacheMapPart to_cache_map(const llb::OpCacheInfo& info) {
    solver::CacheMapPart part;
    part.map.digest = info.digest;
    for (const auto& input : info.inputs) part.map.inputs.push_back({input.selector, !input.definition_only()});
    return part;
}

std::vector<layer::ContentSelector> to_selectors(const std::vector<llb::ContentSelector>& selectors) {
    std::vector<layer::ContentSelector> out;
    for (const auto& one : selectors) {
        layer::ContentSelector selector;
        selector.path = one.path;
        selector.wildcard = one.wildcard;
        selector.follow_links = one.follow_links;
        selector.include = one.include_patterns;
        selector.exclude = one.exclude_patterns;
        // Relative to the path, as the digester wants them.
        for (std::string_view required : one.required_paths) {
            if (required.starts_with(one.path)) required.remove_prefix(one.path.size());
            while (required.starts_with('/')) required.remove_prefix(1);
            selector.required.emplace_back(required);
        }
        out.push_back(std::move(selector));
    }
    return out;
}

layer::Replacement replacement_of(const llb::FileOp& op, std::int64_t input) {
    const auto names_input = [&](const std::optional<llb::UserOpt>& user) {
        const auto* named = user ? std::get_if<llb::NamedUser>(&*user) : nullptr;
        return named != nullptr && named->input == input;
    };
    std::optional<layer::Replacement> all;
    for (const auto& action : op.actions) {
        if (action.input == input) return {};
        const bool reads_names = std::visit(
            [&](const auto& one) {
                if constexpr (requires { one.owner; })
                    return one.owner && (names_input(one.owner->user) || names_input(one.owner->group));
                return false;
            },
            action.action);
        if (reads_names) return {};
        if (action.secondary_input != input) continue;
        const auto* copy = std::get_if<llb::CopyAction>(&action.action);
        if (copy == nullptr) return {};
        layer::Replacement one{.mode = copy->mode_str, .owner = copy->owner.has_value()};
        // In numbers, it does not matter which: none depends on the mode before.
        if (one.mode.empty() ? copy->mode >= 0 : parse_octal(one.mode).has_value()) one.mode = "0";
        if (!all) all = one;
        if (all->mode != one.mode) all->mode.clear();
        all->owner = all->owner && one.owner;
    }
    return all.value_or(layer::Replacement());
}

Result<solver::CacheMapPart> FileOp::cache_map(std::size_t /*index*/, solver::OpContext& /*context*/) {
    solver::CacheMapPart part = to_cache_map(cache_);
    for (std::size_t i = 0; i < part.map.inputs.size(); ++i) {
        part.map.inputs[i].has_alike =
            part.map.inputs[i].content_based && !replacement_of(op_, static_cast<std::int64_t>(i)).replaces_nothing();
    }
    return part;
}

Result<Digest> FileOp::content_digest(std::size_t input, const solver::SharedResult& result,
                                      solver::OpContext& context) {
    return environment_.trees.digest(result, to_selectors(cache_.inputs.at(input).content), context.progress,
                                     context.stop);
}

Result<Digest> FileOp::alike_digest(std::size_t input, const solver::SharedResult& result, solver::OpContext& context) {
    return environment_.trees.alike_digest(result, to_selectors(cache_.inputs.at(input).content),
                                           replacement_of(op_, static_cast<std::int64_t>(input)), context.progress,
                                           context.stop);
}

namespace {

std::optional<std::int64_t> time_of(std::int64_t timestamp) {
    if (timestamp < 0) return std::nullopt;
    return timestamp;
}

Error no_names_in_scratch(const std::string& name) {
    return bad_input("the owner {} cannot be looked up: below this step there is no /etc/passwd or /etc/group",
                     quoted(name))
        .with_hint("write the owner as numbers (--chown=1000:1000); a copy with --link starts from nothing, too");
}

}  // namespace

// One execution. A state is what an action gives: a finished chain, or a layer in work that the next
// action in line goes on with.
class FileOp::Run {
public:
    Run(FileOp& op, std::span<const solver::SharedResult> inputs, solver::OpContext& context)
        : op_(op), inputs_(inputs), context_(context) {}

    Result<std::vector<solver::SharedResult>> run() {
        const auto& actions = op_.op_.actions;
        std::size_t outputs = 0;
        for (const auto& action : actions) {
            if (action.output >= 0) outputs = std::max(outputs, static_cast<std::size_t>(action.output) + 1);
        }
        std::vector<solver::SharedResult> results(outputs);
        states_.resize(actions.size());
        TRY(recall_earlier_copy());
        for (std::size_t i = 0; i < actions.size(); ++i) {
            TRY(check_stop(context_.stop));
            TRY(act(i));
            if (actions[i].output < 0) continue;
            results[static_cast<std::size_t>(actions[i].output)] =
                TRY(held_result(TRY(finished(i)), op_.environment_.holder));
        }
        return results;
    }

private:
    struct Work {
        store::Chain base;
        std::optional<store::LayerDraft> draft;
        std::unique_ptr<snapshot::LayerBuilder> builder;
    };
    struct State {
        std::unique_ptr<Work> work;         // in work, or
        std::optional<store::Chain> chain;  // finished
    };

    [[nodiscard]] bool is_action(std::int64_t index) const {
        return index >= static_cast<std::int64_t>(inputs_.size());
    }

    // Whether an action after `after` still wants state `index`.
    [[nodiscard]] bool wanted_later(std::int64_t index, std::size_t after) const {
        const auto& actions = op_.op_.actions;
        for (std::size_t i = after + 1; i < actions.size(); ++i) {
            if (actions[i].input == index || actions[i].secondary_input == index) return true;
        }
        return false;
    }

    Result<store::Chain> finished(std::size_t action) {
        State& state = states_[action];
        if (state.chain) return *state.chain;
        Work& work = *state.work;
        TRY(work.builder->finish());
        store::LayerInfo info;
        info.description = op_.description_;
        info.size_bytes = work.builder->written().bytes;
        work.builder.reset();
        TRY(op_.environment_.secrets.check(TRY(work.draft->open()), context_.progress, context_.stop));
        const store::LayerId id = TRY(std::move(*work.draft).commit(info));
        remember_copy(id);
        state.chain = work.base.with(id);
        state.work.reset();
        return *state.chain;
    }

    Result<store::Chain> chain_at(std::int64_t index) {
        if (index < 0) return store::Chain{};
        if (is_action(index)) return finished(static_cast<std::size_t>(index) - inputs_.size());
        return op_.environment_.trees.layers_of(inputs_[static_cast<std::size_t>(index)], op_.description_,
                                                context_.stop);
    }

    Result<snapshot::TreeRef> tree_at(std::int64_t index) {
        if (index < 0) return snapshot::empty_tree();
        if (!is_action(index)) {
            return op_.environment_.trees.tree(inputs_[static_cast<std::size_t>(index)], context_.progress,
                                               context_.stop);
        }
        const store::Chain chain = TRY(chain_at(index));
        return op_.environment_.trees.tree(make_result(chain), context_.progress, context_.stop);
    }

    Result<std::unique_ptr<Work>> begin(std::int64_t base_index, std::size_t action) {
        if (is_action(base_index)) {
            State& before = states_[static_cast<std::size_t>(base_index) - inputs_.size()];
            const bool is_result = op_.op_.actions[static_cast<std::size_t>(base_index) - inputs_.size()].output >= 0;
            if (before.work && !is_result && !wanted_later(base_index, action)) return std::move(before.work);
        }
        auto work = std::make_unique<Work>();
        work->base = TRY(chain_at(base_index));
        if (!work->base.empty()) TRY(op_.environment_.trees.ensure(work->base, context_.progress, context_.stop));
        work->draft.emplace(TRY(op_.environment_.store.begin_layer()));
        work->builder = TRY(snapshot::LayerBuilder::create(TRY(op_.environment_.trees.layer_dirs(work->base)),
                                                           TRY(work->draft->open())));
        work->builder->set_before_write(
            [this](std::uint64_t bytes) { return op_.environment_.store.space().charge(bytes, op_.description_); });
        return work;
    }

    Result<std::optional<layer::Owner>> owner_of(const std::optional<llb::ChownOpt>& chown) {
        if (!chown) return std::optional<layer::Owner>{};
        snapshot::TreeRef user_tree;
        snapshot::TreeRef group_tree;
        const auto name_of = [this](const std::optional<llb::UserOpt>& user,
                                    snapshot::TreeRef& tree) -> Result<std::optional<layer::OwnerName>> {
            if (!user || std::holds_alternative<std::monostate>(*user)) return std::optional<layer::OwnerName>{};
            layer::OwnerName name;
            if (const auto* id = std::get_if<std::uint32_t>(&*user)) {
                name.id = *id;
            } else {
                const auto& named = std::get<llb::NamedUser>(*user);
                if (named.input < 0) return no_names_in_scratch(named.name);
                name.name = named.name;
                tree = TRY(tree_at(named.input));
            }
            return std::optional<layer::OwnerName>(std::move(name));
        };
        const auto user = TRY(name_of(chown->user, user_tree));
        const auto group = TRY(name_of(chown->group, group_tree));
        return std::optional<layer::Owner>(TRY(layer::look_up_owner(user, group, user_tree.get(), group_tree.get())));
    }

    // Copies from a build context are remembered with the layer they made: the next time, what has not
    // changed is linked from it. Only for layers that nothing but such copies wrote.
    [[nodiscard]] bool copies_only_from_contexts() const {
        return std::all_of(op_.op_.actions.begin(), op_.op_.actions.end(), [this](const llb::FileAction& action) {
            const auto* copy = std::get_if<llb::CopyAction>(&action.action);
            if (copy == nullptr || copy->attempt_unpack || action.secondary_input < 0) return false;
            if (is_action(action.secondary_input)) return false;
            const Ref* ref = ref_of(inputs_[static_cast<std::size_t>(action.secondary_input)]);
            return ref != nullptr && ref->local() != nullptr;
        });
    }
    [[nodiscard]] std::string hint_key() const {
        return "copy-hint:" + op_.cache_.digest.hex() + ":" + codec::sha256_of(op_.description_).hex().substr(0, 16);
    }
    [[nodiscard]] std::string manifest_file(store::LayerId id) const {
        return fmt::format("{}/{}/copied", op_.environment_.store.layers_dir(), id);
    }

    Result<> recall_earlier_copy() {
        remembers_ = copies_only_from_contexts();
        if (!remembers_) return {};
        const auto fact = TRY(op_.environment_.store.fact(hint_key()));
        const auto id = fact ? parse_int(fact->value) : std::nullopt;
        if (!id || !TRY(op_.environment_.store.hold(store::Chain{{*id}}))) return {};
        layer::DigestTable table = layer::DigestTable::load(manifest_file(*id), "copied");
        if (table.empty()) return {};
        auto layers = op_.environment_.trees.layer_dirs(store::Chain{{*id}});
        if (!layers) return {};
        earlier_.emplace(layer::EarlierCopy{
            TRY(snapshot::ChainView::create(std::move(*layers), snapshot::ChainView::TopLayer::committed)),
            std::move(table)});
        return {};
    }

    // A kindness to the next build: failing to do it fails nothing.
    void remember_copy(store::LayerId id) {
        if (!remembers_ || op_.op_.actions.empty()) return;
        if (!manifest_.table().save(manifest_file(id), "copied")) return;
        static_cast<void>(op_.environment_.store.note_files_of(id));
        static_cast<void>(op_.environment_.store.set_fact(hint_key(), std::to_string(id)));
    }

    Result<> act(std::size_t index) {
        const llb::FileAction& action = op_.op_.actions[index];
        // What an action reads is settled before its own layer is begun.
        snapshot::TreeRef source;
        const auto* copy = std::get_if<llb::CopyAction>(&action.action);
        if (copy != nullptr) source = TRY(tree_at(action.secondary_input));
        const std::optional<layer::Owner> owner = TRY(std::visit(
            [this](const auto& one) -> Result<std::optional<layer::Owner>> {
                if constexpr (requires { one.owner; }) return owner_of(one.owner);
                return std::optional<layer::Owner>{};
            },
            action.action));
        std::unique_ptr<Work> work = TRY(begin(action.input, index));
        snapshot::LayerBuilder& builder = *work->builder;
        if (copy != nullptr) {
            TRY(do_copy(*copy, source, action.secondary_input, owner, builder));
        } else if (const auto* mkdir = std::get_if<llb::MkDirAction>(&action.action)) {
            TRY(layer::make_directory(builder, {.path = mkdir->path,
                                                .mode = static_cast<std::uint32_t>(mkdir->mode) & 0777U,
                                                .make_parents = mkdir->make_parents,
                                                .owner = owner,
                                                .timestamp_ns = time_of(mkdir->timestamp)}));
        } else if (const auto* mkfile = std::get_if<llb::MkFileAction>(&action.action)) {
            TRY(layer::make_file(builder, {.path = mkfile->path,
                                           .mode = static_cast<std::uint32_t>(mkfile->mode) & 0777U,
                                           .data = mkfile->data,
                                           .owner = owner,
                                           .timestamp_ns = time_of(mkfile->timestamp)}));
        } else if (const auto* rm = std::get_if<llb::RmAction>(&action.action)) {
            TRY(layer::remove(builder, {rm->path, rm->allow_not_found, rm->allow_wildcard}));
        } else if (const auto* link = std::get_if<llb::SymlinkAction>(&action.action)) {
            TRY(layer::make_symlink(builder, {.old_path = link->old_path,
                                              .new_path = link->new_path,
                                              .owner = owner,
                                              .timestamp_ns = time_of(link->timestamp)}));
        }
        states_[index].work = std::move(work);
        return {};
    }

    Result<> do_copy(const llb::CopyAction& copy, const snapshot::TreeRef& source, std::int64_t source_index,
                     const std::optional<layer::Owner>& owner, snapshot::LayerBuilder& builder) {
        layer::CopyOptions options;
        options.source = copy.src;
        options.destination = copy.dest;
        options.owner = owner;
        options.mode = copy.mode;
        options.mode_text = copy.mode_str;
        options.follow_symlink = copy.follow_symlink;
        options.dir_copy_contents = copy.dir_copy_contents;
        options.create_dest_path = copy.create_dest_path;
        options.allow_wildcard = copy.allow_wildcard;
        options.allow_empty_wildcard = copy.allow_empty_wildcard;
        options.always_replace = copy.always_replace_existing;
        options.timestamp_ns = time_of(copy.timestamp);
        options.include = copy.include_patterns;
        options.exclude = copy.exclude_patterns;
        options.threads = op_.environment_.threads;
        if (!is_action(source_index) && source_index >= 0) {
            const Ref* ref = ref_of(inputs_[static_cast<std::size_t>(source_index)]);
            if (ref != nullptr && ref->local() != nullptr) options.hashed = &ref->local()->digester();
        }
        if (remembers_) {
            options.manifest = &manifest_;
            options.earlier = earlier_ ? &*earlier_ : nullptr;
        }
        if (!copy.attempt_unpack) return layer::copy(source, builder, options, context_.stop);

        // ADD: archives among the sources are unpacked, everything else is copied.
        std::vector<std::string> sources = {copy.src};
        if (copy.allow_wildcard) {
            sources = TRY(layer::resolve_wildcards(*source, copy.src, snapshot::FollowLast::yes));
            if (sources.empty() && !copy.allow_empty_wildcard) {
                return fail(Code::not_found, Blame::user, "{} not found", copy.src);
            }
        }
        for (const auto& path : sources) {
            if (TRY(unpack_if_archive(*source, path, copy.dest, owner, builder, context_.stop))) continue;
            layer::CopyOptions one = options;
            one.source = path;
            one.allow_wildcard = false;
            TRY(layer::copy(source, builder, one, context_.stop));
        }
        return {};
    }

    FileOp& op_;
    std::span<const solver::SharedResult> inputs_;
    solver::OpContext& context_;
    std::vector<State> states_;
    bool remembers_ = false;
    layer::CopyManifest manifest_;
    std::optional<layer::EarlierCopy> earlier_;
};

Result<std::vector<solver::SharedResult>> FileOp::execute(std::span<const solver::SharedResult> inputs,
                                                          solver::OpContext& context) {
    return Run(*this, inputs, context).run();
}

}  // namespace cooper::ops
