#include "ops/source_op.hpp"

#include "base/text.hpp"
#include "llb/cache_digest.hpp"

#include <mutex>

namespace cooper::ops {

namespace {

solver::CacheMapPart part_of(Digest digest) {
    solver::CacheMapPart part;
    part.map.digest = digest;
    return part;
}

void note(const Environment& environment, const Digest& vertex, std::string algorithm, std::string hex) {
    if (environment.note_pin) environment.note_pin(vertex, {std::move(algorithm), std::move(hex)});
}

class LocalSourceOp final : public solver::Op {
public:
    LocalSourceOp(Environment& environment, SourceParts parts, std::string name)
        : environment_(environment), parts_(std::move(parts)), name_(std::move(name)) {}

    // A directory of the user is never the same twice; what is read of it decides.
    Result<solver::CacheMapPart> cache_map(std::size_t /*index*/, solver::OpContext& /*context*/) override {
        solver::CacheMapPart part = part_of(parts_.vertex);
        part.map.ephemeral = true;
        return part;
    }
    bool cache_map_is_cheap() const override { return true; }
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> /*inputs*/,
                                                      solver::OpContext& context) override {
        return std::vector{TRY(environment_.local(name_, parts_.op.attrs, context.progress, context.stop))};
    }
    solver::PoolKind pool() const override { return solver::PoolKind::io; }

private:
    Environment& environment_;
    SourceParts parts_;
    std::string name_;
};

class ImageSourceOp : public solver::Op {
public:
    ImageSourceOp(Environment& environment, const Digest& vertex, source::ImageRequest request)
        : environment_(environment), vertex_(vertex), request_(std::move(request)) {}

    Result<solver::CacheMapPart> cache_map(std::size_t index, solver::OpContext& context) override {
        const source::ResolvedImage& image = *TRY(resolved(context));
        const Digest config = source::image_config_key(image, request_);
        if (index == 0) {
            solver::CacheMapPart part =
                part_of(llb::source_cache_digest(source::image_manifest_key(image, request_).to_string()));
            part.more = !config.empty();
            return part;
        }
        return part_of(llb::source_cache_digest(config.to_string()));
    }
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> /*inputs*/,
                                                      solver::OpContext& context) override {
        const source::ResolvedImage& image = *TRY(resolved(context));
        return std::vector{TRY(held_result(TRY(environment_.images.chain(image, request_)), environment_.holder))};
    }
    solver::PoolKind pool() const override { return solver::PoolKind::io; }

protected:
    virtual Result<source::ResolvedImage> resolve(solver::OpContext& context) {
        return environment_.images.resolve(request_, &context.progress, context.stop);
    }
    Result<const source::ResolvedImage*> resolved(solver::OpContext& context) {
        const std::lock_guard lock(mutex_);
        if (!image_) {
            image_ = TRY(resolve(context));
            note(environment_, vertex_, "sha256", image_->target.digest.hex());
        }
        return &*image_;
    }

    Environment& environment_;
    Digest vertex_;
    source::ImageRequest request_;

private:
    std::mutex mutex_;  // the two questions may come from two threads
    std::optional<source::ResolvedImage> image_;
};

class OciLayoutSourceOp final : public ImageSourceOp {
public:
    OciLayoutSourceOp(Environment& environment, const Digest& vertex, source::ImageRequest request,
                      std::map<std::string, std::string> attributes)
        : ImageSourceOp(environment, vertex, std::move(request)), attributes_(std::move(attributes)) {}

protected:
    Result<source::ResolvedImage> resolve(solver::OpContext& context) override {
        const auto origin = TRY(environment_.oci_layout(attributes_, context.stop));
        return environment_.images.import(request_, *origin, &context.progress, context.stop);
    }

private:
    std::map<std::string, std::string> attributes_;
};

class HttpSourceOp final : public solver::Op {
public:
    HttpSourceOp(Environment& environment, const Digest& vertex, source::HttpRequest request)
        : environment_(environment), vertex_(vertex), request_(std::move(request)) {}
    Result<solver::CacheMapPart> cache_map(std::size_t /*index*/, solver::OpContext& context) override {
        return part_of(llb::source_cache_digest(TRY(pinned(context))->key));
    }
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> /*inputs*/,
                                                      solver::OpContext& context) override {
        const source::HttpPin& pin = *TRY(pinned(context));
        auto chain = TRY(environment_.http.fetch(request_, pin, environment_.session, &context.progress, context.stop));
        return std::vector{TRY(held_result(std::move(chain), environment_.holder))};
    }
    solver::PoolKind pool() const override { return solver::PoolKind::io; }

private:
    Result<const source::HttpPin*> pinned(solver::OpContext& context) {
        const std::lock_guard lock(mutex_);
        if (!pin_) {
            pin_ = TRY(environment_.http.pin(request_, environment_.session, &context.progress, context.stop));
            note(environment_, vertex_, "sha256", pin_->digest.hex());
        }
        return &*pin_;
    }
    Environment& environment_;
    Digest vertex_;
    source::HttpRequest request_;
    std::mutex mutex_;
    std::optional<source::HttpPin> pin_;
};

class GitSourceOp final : public solver::Op {
public:
    GitSourceOp(Environment& environment, const Digest& vertex, source::GitRequest request)
        : environment_(environment), vertex_(vertex), request_(std::move(request)) {}
    Result<solver::CacheMapPart> cache_map(std::size_t /*index*/, solver::OpContext& context) override {
        return part_of(llb::source_cache_digest(TRY(pinned(context))->key));
    }
    Result<std::vector<solver::SharedResult>> execute(std::span<const solver::SharedResult> /*inputs*/,
                                                      solver::OpContext& context) override {
        const source::GitPin& pin = *TRY(pinned(context));
        auto chain = TRY(environment_.git.fetch(request_, pin, environment_.session, &context.progress, context.stop));
        return std::vector{TRY(held_result(std::move(chain), environment_.holder))};
    }
    solver::PoolKind pool() const override { return solver::PoolKind::io; }

private:
    Result<const source::GitPin*> pinned(solver::OpContext& context) {
        const std::lock_guard lock(mutex_);
        if (!pin_) {
            pin_ = TRY(environment_.git.pin(request_, environment_.session, &context.progress, context.stop));
            note(environment_, vertex_, "sha1", pin_->commit);
        }
        return &*pin_;
    }
    Environment& environment_;
    Digest vertex_;
    source::GitRequest request_;
    std::mutex mutex_;
    std::optional<source::GitPin> pin_;
};

}  // namespace

Result<std::shared_ptr<solver::Op>> make_source_op(Environment& environment, SourceParts parts) {
    const std::string& identifier = parts.op.identifier;
    const std::size_t at = identifier.find("://");
    if (at == std::string::npos) return bad_input("invalid source identifier: {}", quoted(identifier));
    const std::string scheme = identifier.substr(0, at);
    const std::string rest = identifier.substr(at + 3);
    std::shared_ptr<solver::Op> op;
    if (scheme == "local") {
        op = std::make_shared<LocalSourceOp>(environment, std::move(parts), rest);
    } else if (scheme == "docker-image") {
        op = std::make_shared<ImageSourceOp>(environment, parts.vertex,
                                             TRY(source::image_request(rest, parts.platform, parts.op.attrs)));
    } else if (scheme == "oci-layout") {
        op = std::make_shared<OciLayoutSourceOp>(environment, parts.vertex,
                                                 TRY(source::image_request(rest, parts.platform, parts.op.attrs)),
                                                 parts.op.attrs);
    } else if (scheme == "http" || scheme == "https") {
        op = std::make_shared<HttpSourceOp>(environment, parts.vertex,
                                            TRY(source::http_request(identifier, parts.op.attrs)));
    } else if (scheme == "git") {
        op = std::make_shared<GitSourceOp>(environment, parts.vertex,
                                           TRY(source::git_request(identifier, parts.op.attrs)));
    } else {
        return bad_input("unsupported source scheme: {}", quoted(identifier));
    }
    return op;
}

}  // namespace cooper::ops
