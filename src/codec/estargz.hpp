// eStargz: a layer's tar as gzip that can also be read file by file. Every chunk of a file begins a gzip member; a
// table of contents (stargz.index.json, the archive's last entry) says at which; the last 51 bytes, an empty member,
// say where the table is. To whoever knows nothing of it, it is a gzipped tar with two further files in it.
// https://github.com/containerd/stargz-snapshotter/blob/main/docs/estargz.md
//
// The bytes depend on the tar and the level only. Headers are written anew, as TarWriter does.
#pragma once

#include "base/bytes.hpp"
#include "base/digest.hpp"
#include "base/stop.hpp"
#include "codec/pipeline.hpp"

#include <cstddef>

namespace cooper::codec {

inline constexpr std::string_view kEstargzTocAnnotation = "containerd.io/snapshot/stargz/toc.digest";
inline constexpr std::string_view kEstargzSizeAnnotation = "io.containers.estargz.uncompressed-size";

struct EstargzFacts {
    BlobFacts blob;  // diff_id: of the tar that comes out, which has the table in it
    Digest toc;      // of the table's text
};

// tar: an uncompressed archive, hostile or not. level as of gzip. Some 16 MiB for each thread, and 100 bytes and the
// name for each entry.
[[nodiscard]] Result<EstargzFacts> write_estargz(ByteSource& tar, ByteSink& out, int level, std::size_t threads,
                                                 const Stop& stop);

}  // namespace cooper::codec
