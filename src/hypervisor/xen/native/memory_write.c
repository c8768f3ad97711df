/* See memory_write.h. */
#include "memory_write.h"

#include <stdlib.h>
#include <string.h>

#include "memory_stream.h"

struct memory_writer {
  struct builder *builder;
  uint16_t domid;
  struct template template; /* pages 0: none */
  struct target_memory memory; /* base NULL: finished */
  uint64_t *mfns;              /* of all frames, then shared_info, then the grants */
};

static uint64_t own_pages(const struct memory_writer *writer) { return writer->memory.pages - writer->memory.shared_pages; }

static int take_memory(struct memory_writer *writer, struct failure *failure)
{
  struct control *control = builder_control(writer->builder);
  uint64_t first = writer->memory.shared_pages, own = own_pages(writer);
  struct domain_facts facts;
  int status = control_domain(control, writer->domid, &facts, failure);

  if (status) return status < 0 ? -1 : failed_with(failure, "memory", ESRCH);
  if (facts.total_pages != 0) return failed_with(failure, "memory", EEXIST);
  memset(writer->mfns, 0xff, first * sizeof *writer->mfns);
  if (control_populate(control, writer->domid, first, own, writer->mfns + first, failure)) return -1;
  writer->mfns[writer->memory.pages] = facts.shared_info_mfn;
  if (control_grant_frame(control, writer->domid, &writer->mfns[writer->memory.pages + 1], failure)) return -1;
  writer->memory.base = builder_map(writer->builder, writer->domid, own + 2, writer->mfns + first, 1, failure);
  if (!writer->memory.base) return -1;
  /* Now, while a guest that comes from elsewhere still runs there, rather than at the end. */
  memset(writer->memory.base, 0, own * PAGE_BYTES);
  memset(writer->memory.have + first, 1, own);
  return 0;
}

struct memory_writer *memory_writer_open(struct builder *builder, uint16_t domid, uint64_t pages, const struct template *template,
                                         struct failure *failure)
{
  struct memory_writer *writer = calloc(1, sizeof *writer);

  if (!writer) {
    failed(failure, "calloc");
    return NULL;
  }
  *writer = (struct memory_writer){ .builder = builder, .domid = domid };
  if (template) writer->template = *template;
  writer->memory.pages = pages;
  writer->memory.shared_pages = writer->template.pages;
  writer->mfns = calloc(pages + 2, sizeof *writer->mfns);
  writer->memory.mfns = writer->mfns;
  writer->memory.have = calloc(pages, 1);
  if (!writer->mfns || !writer->memory.have) failed(failure, "calloc");
  else if (pages <= writer->template.pages) failed_with(failure, "memory", EINVAL);
  else if (take_memory(writer, failure) == 0) return writer;
  memory_writer_free(writer);
  return NULL;
}

static int unmap(struct memory_writer *writer)
{
  uint8_t *base = writer->memory.base;

  writer->memory.base = NULL;
  return base ? builder_unmap(writer->builder, base, own_pages(writer) + 2) : 0;
}

void memory_writer_free(struct memory_writer *writer)
{
  if (!writer) return;
  unmap(writer);
  free(writer->mfns);
  free(writer->memory.have);
  free(writer);
}

int memory_writer_piece(struct memory_writer *writer, const uint8_t *piece, size_t length, struct failure *failure)
{
  if (!writer->memory.base || stream_apply(&writer->memory, piece, length)) return failed_with(failure, "memory", EINVAL);
  return 0;
}

/* Hooks the template's pages in where the page tables have left room for them. */
static int map_template(struct memory_writer *writer, const uint8_t *places, struct failure *failure)
{
  struct table_write writes[TEMPLATE_PAGES_MAX];

  for (uint64_t i = 0; i < writer->template.pages; i++) {
    struct shared_place place;

    memcpy(&place, places + i * sizeof place, sizeof place);
    writes[i] = (struct table_write){ (writer->mfns[place.table] << 12) + place.slot * sizeof(uint64_t),
                                      layout_read_only(writer->template.mfns[i]) };
  }
  if (writer->template.pages == 0) return 0;
  return control_map_others(builder_control(writer->builder), writer->domid, writer->template.domid, writes, writer->template.pages, failure);
}

int memory_writer_finish(struct memory_writer *writer, const uint8_t *state, size_t length, unsigned vif_count, struct build_result *result,
                         struct failure *failure)
{
  struct control *control = builder_control(writer->builder);
  const uint64_t *mfns = writer->mfns;
  struct parsed_state parsed;
  const struct guest_state *fixed = &parsed.fixed;
  struct cpu_state *cpu;
  int done = -1;

  memset(result, 0, sizeof *result);
  if (!writer->memory.base || state_parse(state, length, writer->memory.pages, writer->memory.shared_pages, vif_count, &parsed))
    return failed_with(failure, "memory", EINVAL);
  cpu = control_cpu_from(parsed.cpu, fixed->cpu_bytes, failure);
  if (!cpu) return -1;
  result->console_mfn = mfns[fixed->console];
  result->start_info_mfn = mfns[fixed->start_info];
  if (fixed->store != NO_FRAME) result->store_mfn = mfns[fixed->store];
  for (unsigned i = 0; i < fixed->wiring.vif_count && fixed->store == NO_FRAME; i++) {
    result->vifs[i].tx_mfn = mfns[fixed->wiring.vifs[i].tx_frame];
    result->vifs[i].rx_mfn = mfns[fixed->wiring.vifs[i].rx_frame];
  }
  stream_settle(&writer->memory, fixed, mfns[writer->memory.pages], result);
  if (unmap(writer)) failed(failure, "xenforeignmemory_unmap");
  else if (control_pin_l4(control, writer->domid, mfns[fixed->top_table], failure) == 0 && map_template(writer, parsed.places, failure) == 0)
    done = control_write_cpu(control, writer->domid, cpu, mfns[fixed->top_table], result->start_info_mfn, failure);
  free(cpu);
  return done;
}
