import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.apache.flink.api.common.eventtime.Watermark;
import org.apache.flink.api.common.eventtime.WatermarkGenerator;
import org.apache.flink.api.common.eventtime.WatermarkOutput;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.CoGroupFunction;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.KeyedStream;
import org.apache.flink.streaming.api.datastream.SingleOutputStreamOperator;
import org.apache.flink.streaming.api.datastream.WindowedStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.co.ProcessJoinFunction;
import org.apache.flink.streaming.api.functions.windowing.ProcessAllWindowFunction;
import org.apache.flink.streaming.api.functions.windowing.ProcessWindowFunction;
import org.apache.flink.streaming.api.windowing.assigners.EventTimeSessionWindows;
import org.apache.flink.streaming.api.windowing.assigners.GlobalWindows;
import org.apache.flink.streaming.api.windowing.assigners.SlidingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.TumblingEventTimeWindows;
import org.apache.flink.streaming.api.windowing.assigners.WindowAssigner;
import org.apache.flink.streaming.api.windowing.evictors.CountEvictor;
import org.apache.flink.streaming.api.windowing.evictors.TimeEvictor;
import org.apache.flink.streaming.api.windowing.triggers.ContinuousEventTimeTrigger;
import org.apache.flink.streaming.api.windowing.triggers.CountTrigger;
import org.apache.flink.streaming.api.windowing.triggers.EventTimeTrigger;
import org.apache.flink.streaming.api.windowing.triggers.PurgingTrigger;
import org.apache.flink.streaming.api.windowing.windows.GlobalWindow;
import org.apache.flink.streaming.api.windowing.windows.TimeWindow;
import org.apache.flink.streaming.api.windowing.windows.Window;
import org.apache.flink.table.api.DataTypes;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;
import org.apache.flink.util.CloseableIterator;
import org.apache.flink.util.Collector;
import org.apache.flink.util.OutputTag;

/**
 * Runs cases on Flink over one stream, all in one job, and writes the results of each into a file, a line a record.
 *
 * <p>Arguments: the stream (lines "side,key,time,value"), the output folder, the bound of out-of-orderness (ms), the cases.
 * After every record comes a watermark, so that what is late does not depend on the clock.
 */
public final class Parity {
    /** side, key, time, value. */
    public static final class Event extends Tuple4<Integer, String, Long, Long> {}

    private static final OutputTag<Event> LATE = new OutputTag<>("late") {};

    private static List<Event> events;
    private static long bound;

    interface Case {
        DataStream<String> build(StreamExecutionEnvironment env);
    }

    public static void main(String[] args) throws Exception {
        events = read(Path.of(args[0]));
        bound = Long.parseLong(args[2]);
        Map<String, Case> cases = cases();
        StreamExecutionEnvironment env = StreamExecutionEnvironment.getExecutionEnvironment();
        env.setParallelism(1);
        Map<String, PrintWriter> files = new HashMap<>();
        DataStream<Tuple2<String, String>> all = null;
        for (int i = 3; i < args.length; i++) {
            String name = args[i];
            if (!cases.containsKey(name)) {
                throw new IllegalArgumentException("no case " + name + " among " + cases.keySet());
            }
            DataStream<Tuple2<String, String>> named =
                    cases.get(name).build(env).map(line -> Tuple2.of(name, line)).returns(Types.TUPLE(Types.STRING, Types.STRING));
            all = all == null ? named : all.union(named);
            files.put(name, new PrintWriter(Path.of(args[1], name + ".txt").toFile()));
        }
        try (CloseableIterator<Tuple2<String, String>> lines = all.executeAndCollect("parity")) {
            while (lines.hasNext()) {
                Tuple2<String, String> line = lines.next();
                files.get(line.f0).println(line.f1);
            }
        }
        files.values().forEach(PrintWriter::close);
    }

    private static Map<String, Case> cases() {
        Map<String, Case> cases = new LinkedHashMap<>();
        cases.put("tumbling", env -> windows(env, tumbling(1000, 0), 0));
        cases.put("tumbling_offset", env -> windows(env, tumbling(1000, 300), 0));
        cases.put("tumbling_lateness", env -> windows(env, tumbling(1000, 0), 1500));
        cases.put("sliding", env -> windows(env, sliding(3000, 1000), 0));
        cases.put("sliding_uneven", env -> windows(env, sliding(2500, 1000), 0));
        cases.put("sliding_apart", env -> windows(env, sliding(700, 1000), 0));
        cases.put("sliding_lateness", env -> windows(env, sliding(3000, 1000), 1200));
        cases.put("session", env -> windows(env, EventTimeSessionWindows.withGap(Duration.ofMillis(400)), 0));
        cases.put("session_lateness", env -> windows(env, EventTimeSessionWindows.withGap(Duration.ofMillis(400)), 900));
        cases.put("count", env -> keyed(env).countWindow(5).process(new CountLine()));
        cases.put("count_sliding", env -> keyed(env).countWindow(7, 3).process(new CountLine()));
        cases.put("global_purging", env -> keyed(env).window(GlobalWindows.create())
                .trigger(PurgingTrigger.of(CountTrigger.of(4))).process(new CountLine()));
        cases.put("count_trigger", env -> results(keyed(env).window(tumbling(1000, 0))
                .trigger(CountTrigger.of(3)).process(new TimeLine())));
        cases.put("continuous_trigger", env -> results(keyed(env).window(tumbling(3000, 0))
                .trigger(ContinuousEventTimeTrigger.of(Duration.ofMillis(1000))).process(new TimeLine())));
        cases.put("count_evictor", env -> results(keyed(env).window(tumbling(1000, 0))
                .evictor(CountEvictor.of(2)).process(new TimeLine())));
        cases.put("time_evictor", env -> results(keyed(env).window(tumbling(1000, 0))
                .evictor(TimeEvictor.of(Duration.ofMillis(300))).process(new TimeLine())));
        cases.put("window_all", env -> stream(env)
                .windowAll(TumblingEventTimeWindows.of(Duration.ofMillis(1000))).process(new AllLine()));
        cases.put("interval_join", env -> join(env, false));
        cases.put("interval_join_exclusive", env -> join(env, true));
        cases.put("window_join_tumbling", env -> windowJoin(env, TumblingEventTimeWindows.of(Duration.ofMillis(1000))));
        cases.put("window_join_sliding", env -> windowJoin(env,
                SlidingEventTimeWindows.of(Duration.ofMillis(2000), Duration.ofMillis(1000))));
        cases.put("sql_tumble", env -> sql(env, "SELECT k, window_start, window_end, COUNT(*), SUM(v), MIN(v), MAX(v)"
                + " FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(t), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end"));
        cases.put("sql_hop", env -> sql(env, "SELECT k, window_start, window_end, COUNT(*), SUM(v), MIN(v), MAX(v)"
                + " FROM TABLE(HOP(TABLE events, DESCRIPTOR(t), INTERVAL '1' SECOND, INTERVAL '3' SECOND))"
                + " GROUP BY k, window_start, window_end"));
        cases.put("sql_top_k", env -> sql(env, "SELECT k, window_start, window_end, c, n FROM (SELECT *, ROW_NUMBER() OVER"
                + " (PARTITION BY window_start, window_end ORDER BY c DESC, k) AS n FROM (SELECT k, window_start, window_end,"
                + " COUNT(*) AS c FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(t), INTERVAL '1' SECOND))"
                + " GROUP BY k, window_start, window_end)) WHERE n <= 2"));
        cases.put("sql_interval_join", env -> sql(env, "SELECT a.k, a.ts, a.v, b.ts, b.v FROM firsts a, seconds b WHERE"
                + " a.k = b.k AND b.t BETWEEN a.t - INTERVAL '0.5' SECOND AND a.t + INTERVAL '0.7' SECOND"));
        cases.put("sql_interval_left_join", env -> sql(env, "SELECT a.k, a.ts, a.v, b.ts, b.v FROM firsts a LEFT JOIN seconds b"
                + " ON a.k = b.k AND b.t BETWEEN a.t - INTERVAL '0.5' SECOND AND a.t + INTERVAL '0.7' SECOND"));
        cases.put("sql_distinct", env -> sql(env, "SELECT k, window_start, window_end, COUNT(DISTINCT v)"
                + " FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(t), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end"));
        cases.put("session_early", env -> results(keyed(env).window(EventTimeSessionWindows.withGap(Duration.ofMillis(400)))
                .trigger(ContinuousEventTimeTrigger.of(Duration.ofMillis(300))).sideOutputLateData(LATE).process(new TimeLine())));
        cases.put("session_early_lateness", env -> results(keyed(env)
                .window(EventTimeSessionWindows.withGap(Duration.ofMillis(400))).allowedLateness(Duration.ofMillis(900))
                .trigger(ContinuousEventTimeTrigger.of(Duration.ofMillis(300))).sideOutputLateData(LATE).process(new TimeLine())));
        cases.put("session_count_trigger", env -> results(keyed(env)
                .window(EventTimeSessionWindows.withGap(Duration.ofMillis(400))).allowedLateness(Duration.ofMillis(900))
                .trigger(CountTrigger.of(2)).sideOutputLateData(LATE).process(new TimeLine())));
        cases.put("session_purging", env -> results(keyed(env)
                .window(EventTimeSessionWindows.withGap(Duration.ofMillis(400))).allowedLateness(Duration.ofMillis(900))
                .trigger(PurgingTrigger.of(EventTimeTrigger.create())).sideOutputLateData(LATE).process(new TimeLine())));
        cases.put("session_evictor", env -> results(keyed(env)
                .window(EventTimeSessionWindows.withGap(Duration.ofMillis(400))).allowedLateness(Duration.ofMillis(900))
                .evictor(TimeEvictor.of(Duration.ofMillis(100))).sideOutputLateData(LATE).process(new TimeLine())));
        cases.put("count_trigger_lateness", env -> results(lately(keyed(env).window(tumbling(1000, 0)))
                .trigger(CountTrigger.of(2)).process(new TimeLine())));
        cases.put("continuous_trigger_lateness", env -> results(lately(keyed(env).window(sliding(3000, 1000)))
                .trigger(ContinuousEventTimeTrigger.of(Duration.ofMillis(700))).process(new TimeLine())));
        cases.put("purging_lateness", env -> results(lately(keyed(env).window(tumbling(1000, 0)))
                .trigger(PurgingTrigger.of(EventTimeTrigger.create())).process(new TimeLine())));
        cases.put("purging_continuous_lateness", env -> results(lately(keyed(env).window(tumbling(3000, 0)))
                .trigger(PurgingTrigger.of(ContinuousEventTimeTrigger.of(Duration.ofMillis(700)))).process(new TimeLine())));
        cases.put("count_evictor_after", env -> results(lately(keyed(env).window(tumbling(3000, 0)))
                .trigger(CountTrigger.of(2)).evictor(CountEvictor.of(3, true)).process(new TimeLine())));
        cases.put("time_evictor_after", env -> results(lately(keyed(env).window(tumbling(3000, 0)))
                .trigger(CountTrigger.of(2)).evictor(TimeEvictor.of(Duration.ofMillis(300), true)).process(new TimeLine())));
        cases.put("evictor_purging", env -> results(lately(keyed(env).window(tumbling(1000, 0)))
                .trigger(PurgingTrigger.of(EventTimeTrigger.create())).evictor(CountEvictor.of(2)).process(new TimeLine())));
        cases.put("global_evictor", env -> keyed(env).window(GlobalWindows.create())
                .trigger(CountTrigger.of(3)).evictor(TimeEvictor.of(Duration.ofMillis(600))).process(new CountLine()));
        cases.put("reduce_lateness", env -> results(lately(keyed(env).window(sliding(3000, 1000))).reduce(Parity::added,
                new ReducedLine())));
        cases.put("reduce_session_lateness", env -> results(lately(keyed(env)
                .window(EventTimeSessionWindows.withGap(Duration.ofMillis(400)))).reduce(Parity::added, new ReducedLine())));
        cases.put("all_lateness", env -> results(stream(env).windowAll(TumblingEventTimeWindows.of(Duration.ofMillis(1000)))
                .allowedLateness(Duration.ofMillis(1500)).sideOutputLateData(LATE).process(new AllLine())));
        cases.put("all_session_lateness", env -> results(stream(env)
                .windowAll(EventTimeSessionWindows.withGap(Duration.ofMillis(40)))
                .allowedLateness(Duration.ofMillis(1500)).sideOutputLateData(LATE).process(new AllLine())));
        cases.put("event_timers", env -> keyed(env).process(new Timers()));
        cases.put("window_join_session", env -> windowJoin(env, EventTimeSessionWindows.withGap(Duration.ofMillis(400))));
        cases.put("window_join_left", env -> coGroup(env, false));
        cases.put("window_join_full", env -> coGroup(env, true));
        cases.put("sql_window_left_join", env -> sql(env, "SELECT a.k, a.ts, a.v, b.ts, b.v FROM"
                + " (SELECT * FROM TABLE(TUMBLE(TABLE firsts, DESCRIPTOR(t), INTERVAL '1' SECOND))) a LEFT JOIN"
                + " (SELECT * FROM TABLE(TUMBLE(TABLE seconds, DESCRIPTOR(t), INTERVAL '1' SECOND))) b"
                + " ON a.k = b.k AND a.window_start = b.window_start AND a.window_end = b.window_end"));
        cases.put("sql_window_semi_join", env -> sql(env, "SELECT a.k, a.ts, a.v FROM"
                + " (SELECT * FROM TABLE(TUMBLE(TABLE firsts, DESCRIPTOR(t), INTERVAL '1' SECOND))) a WHERE a.k IN (SELECT k FROM"
                + " (SELECT * FROM TABLE(TUMBLE(TABLE seconds, DESCRIPTOR(t), INTERVAL '1' SECOND))) b"
                + " WHERE a.window_start = b.window_start AND a.window_end = b.window_end)"));
        cases.put("sql_window_anti_join", env -> sql(env, "SELECT a.k, a.ts, a.v FROM"
                + " (SELECT * FROM TABLE(TUMBLE(TABLE firsts, DESCRIPTOR(t), INTERVAL '1' SECOND))) a WHERE NOT EXISTS (SELECT * FROM"
                + " (SELECT * FROM TABLE(TUMBLE(TABLE seconds, DESCRIPTOR(t), INTERVAL '1' SECOND))) b"
                + " WHERE a.k = b.k AND a.window_start = b.window_start AND a.window_end = b.window_end)"));
        cases.put("sql_interval_full_join", env -> sql(env, "SELECT COALESCE(a.k, b.k), a.ts, a.v, b.ts, b.v FROM firsts a"
                + " FULL JOIN seconds b ON a.k = b.k AND b.t BETWEEN a.t - INTERVAL '0.5' SECOND AND a.t + INTERVAL '0.7' SECOND"));
        cases.put("sql_temporal_join", env -> sql(env, "SELECT a.k, a.ts, a.v, b.ts, b.v FROM firsts a JOIN"
                + " versions FOR SYSTEM_TIME AS OF a.t AS b ON a.k = b.k"));
        cases.put("sql_temporal_left_join", env -> sql(env, "SELECT a.k, a.ts, a.v, b.ts, b.v FROM firsts a LEFT JOIN"
                + " versions FOR SYSTEM_TIME AS OF a.t AS b ON a.k = b.k"));
        cases.put("sql_moments", env -> sql(env, "SELECT k, window_start, window_end, AVG(CAST(v AS DOUBLE)),"
                + " VAR_POP(CAST(v AS DOUBLE)), STDDEV_POP(CAST(v AS DOUBLE)), STDDEV_SAMP(CAST(v AS DOUBLE)) FROM"
                + " TABLE(TUMBLE(TABLE events, DESCRIPTOR(t), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end"));
        cases.put("sql_hop_distinct", env -> sql(env, "SELECT k, window_start, window_end, COUNT(DISTINCT v)"
                + " FROM TABLE(HOP(TABLE events, DESCRIPTOR(t), INTERVAL '1' SECOND, INTERVAL '3' SECOND))"
                + " GROUP BY k, window_start, window_end"));
        cases.put("sql_first", env -> sql(env, picked("ASC")));
        cases.put("sql_last", env -> sql(env, picked("DESC")));
        cases.put("sql_session", env -> sql(env, "SELECT k, window_start, window_end, COUNT(*), SUM(v), MIN(v), MAX(v) FROM"
                + " TABLE(SESSION(TABLE events PARTITION BY k, DESCRIPTOR(t), INTERVAL '0.4' SECOND))"
                + " GROUP BY k, window_start, window_end"));
        cases.put("sql_two_levels", env -> sql(env, "SELECT window_start, window_end, SUM(s), COUNT(*) FROM"
                + " TABLE(TUMBLE(TABLE sums, DESCRIPTOR(rt), INTERVAL '5' SECOND)) GROUP BY window_start, window_end"));
        return cases;
    }

    private static List<Event> read(Path path) throws Exception {
        List<Event> events = new ArrayList<>();
        for (String line : Files.readAllLines(path)) {
            String[] fields = line.split(",");
            Event event = new Event();
            event.setFields(Integer.valueOf(fields[0]), fields[1], Long.valueOf(fields[2]), Long.valueOf(fields[3]));
            events.add(event);
        }
        return events;
    }

    private static DataStream<Event> stream(StreamExecutionEnvironment env) {
        long bound = Parity.bound;
        WatermarkStrategy<Event> strategy = WatermarkStrategy.<Event>forGenerator(context -> new AfterEach(bound))
                .withTimestampAssigner((event, before) -> event.f2);
        return env.fromData(events, Types.GENERIC(Event.class)).assignTimestampsAndWatermarks(strategy);
    }

    private static KeyedStream<Event, String> keyed(StreamExecutionEnvironment env) {
        return stream(env).keyBy(event -> event.f1);
    }

    /** A watermark after every record. */
    static final class AfterEach implements WatermarkGenerator<Event> {
        private final long bound;
        private long latest = Long.MIN_VALUE;

        AfterEach(long bound) {
            this.bound = bound;
        }

        @Override
        public void onEvent(Event event, long time, WatermarkOutput output) {
            latest = Math.max(latest, time);
            output.emitWatermark(new Watermark(latest - bound - 1));
        }

        @Override
        public void onPeriodicEmit(WatermarkOutput output) {}
    }

    private static WindowAssigner<Object, TimeWindow> tumbling(long size, long offset) {
        return TumblingEventTimeWindows.of(Duration.ofMillis(size), Duration.ofMillis(offset));
    }

    private static WindowAssigner<Object, TimeWindow> sliding(long size, long every) {
        return SlidingEventTimeWindows.of(Duration.ofMillis(size), Duration.ofMillis(every));
    }

    private static DataStream<String> windows(
            StreamExecutionEnvironment env, WindowAssigner<Object, TimeWindow> windows, long lateness) {
        WindowedStream<Event, String, TimeWindow> stream = keyed(env).window(windows).sideOutputLateData(LATE);
        return results(stream.allowedLateness(Duration.ofMillis(lateness)).process(new TimeLine()));
    }

    private static DataStream<String> results(SingleOutputStreamOperator<String> results) {
        return results.union(results.getSideOutput(LATE)
                .map(event -> "late," + event.f1 + "," + event.f2 + "," + event.f3).returns(Types.STRING));
    }

    private static <W extends Window> WindowedStream<Event, String, W> lately(WindowedStream<Event, String, W> stream) {
        return stream.allowedLateness(Duration.ofMillis(1500)).sideOutputLateData(LATE);
    }

    private static Event added(Event first, Event second) {
        Event sum = new Event();
        sum.setFields(first.f0, first.f1, Math.max(first.f2, second.f2), first.f3 + second.f3);
        return sum;
    }

    /** The latest time and the sum of a window. */
    static final class ReducedLine extends ProcessWindowFunction<Event, String, String, TimeWindow> {
        @Override
        public void process(String key, Context context, Iterable<Event> elements, Collector<String> out) {
            Event sum = elements.iterator().next();
            out.collect(key + "," + context.window().getStart() + "," + context.window().getEnd() + "," + sum.f2 + "," + sum.f3);
        }
    }

    /** Adds up what has come by an event timer at the end of each record's second; each record tells the time it saw. */
    static final class Timers extends KeyedProcessFunction<String, Event, String> {
        private transient ValueState<Long> sum;

        @Override
        public void open(OpenContext context) {
            sum = getRuntimeContext().getState(new ValueStateDescriptor<>("sum", Types.LONG));
        }

        @Override
        public void processElement(Event event, Context context, Collector<String> out) throws Exception {
            sum.update((sum.value() == null ? 0 : sum.value()) + event.f3);
            long end = event.f2 - event.f2 % 1000 + 999;
            context.timerService().registerEventTimeTimer(end);
            if (event.f3 == 0) {
                context.timerService().deleteEventTimeTimer(end + 1000);
            }
            if (event.f2 <= context.timerService().currentWatermark()) {
                out.collect(event.f1 + ",late," + event.f2);
            }
        }

        @Override
        public void onTimer(long time, OnTimerContext context, Collector<String> out) throws Exception {
            out.collect(context.getCurrentKey() + "," + time + "," + sum.value());
        }
    }

    private static String line(String key, Window window, Iterable<Event> elements) {
        long count = 0;
        long sum = 0;
        long lowest = Long.MAX_VALUE;
        long highest = Long.MIN_VALUE;
        for (Event event : elements) {
            count++;
            sum += event.f3;
            lowest = Math.min(lowest, event.f3);
            highest = Math.max(highest, event.f3);
        }
        String bounds = window instanceof TimeWindow time ? "," + time.getStart() + "," + time.getEnd() : "";
        return key + bounds + "," + count + "," + sum + (count > 0 ? "," + lowest + "," + highest : ",,");
    }

    static final class TimeLine extends ProcessWindowFunction<Event, String, String, TimeWindow> {
        @Override
        public void process(String key, Context context, Iterable<Event> elements, Collector<String> out) {
            out.collect(line(key, context.window(), elements));
        }
    }

    static final class CountLine extends ProcessWindowFunction<Event, String, String, GlobalWindow> {
        @Override
        public void process(String key, Context context, Iterable<Event> elements, Collector<String> out) {
            out.collect(line(key, context.window(), elements));
        }
    }

    static final class AllLine extends ProcessAllWindowFunction<Event, String, TimeWindow> {
        @Override
        public void process(Context context, Iterable<Event> elements, Collector<String> out) {
            out.collect(line("", context.window(), elements));
        }
    }

    private static String pair(Event first, Event second) {
        return first.f1 + "," + first.f2 + "," + first.f3 + "," + second.f2 + "," + second.f3;
    }

    private static DataStream<String> join(StreamExecutionEnvironment env, boolean exclusive) {
        DataStream<Event> stream = stream(env);
        KeyedStream<Event, String> first = stream.filter(event -> event.f0 == 0).keyBy(event -> event.f1);
        KeyedStream<Event, String> second = stream.filter(event -> event.f0 == 1).keyBy(event -> event.f1);
        KeyedStream.IntervalJoined<Event, Event, String> joined =
                first.intervalJoin(second).between(Duration.ofMillis(-500), Duration.ofMillis(700));
        if (exclusive) {
            joined = joined.lowerBoundExclusive().upperBoundExclusive();
        }
        return joined.process(new ProcessJoinFunction<Event, Event, String>() {
            @Override
            public void processElement(Event left, Event right, Context context, Collector<String> out) {
                out.collect(pair(left, right));
            }
        });
    }

    private static DataStream<String> windowJoin(
            StreamExecutionEnvironment env, WindowAssigner<Object, TimeWindow> windows) {
        DataStream<Event> stream = stream(env);
        return stream.filter(event -> event.f0 == 0)
                .join(stream.filter(event -> event.f0 == 1))
                .where(event -> event.f1)
                .equalTo(event -> event.f1)
                .window(windows)
                .apply((left, right) -> pair(left, right), Types.STRING);
    }

    /** The pairs of a window, and the records of the first side, or of both, that have no partner there. */
    private static DataStream<String> coGroup(StreamExecutionEnvironment env, boolean full) {
        DataStream<Event> stream = stream(env);
        return stream.filter(event -> event.f0 == 0)
                .coGroup(stream.filter(event -> event.f0 == 1))
                .where(event -> event.f1)
                .equalTo(event -> event.f1)
                .window(TumblingEventTimeWindows.of(Duration.ofMillis(500)))
                .apply(new CoGroupFunction<Event, Event, String>() {
                    @Override
                    public void coGroup(Iterable<Event> lefts, Iterable<Event> rights, Collector<String> out) {
                        for (Event left : lefts) {
                            for (Event right : rights) {
                                out.collect(pair(left, right));
                            }
                            if (!rights.iterator().hasNext()) {
                                out.collect(left.f1 + "," + left.f2 + "," + left.f3 + ",,");
                            }
                        }
                        if (full && !lefts.iterator().hasNext()) {
                            for (Event right : rights) {
                                out.collect(right.f1 + ",,," + right.f2 + "," + right.f3);
                            }
                        }
                    }
                }, Types.STRING);
    }

    /** The value of the first or the last record of each key and window, in event time. */
    private static String picked(String order) {
        return "SELECT k, window_start, window_end, v FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k, window_start,"
                + " window_end ORDER BY t " + order + ") AS n FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(t),"
                + " INTERVAL '1' SECOND))) WHERE n = 1";
    }

    /** A query over the tables `events`, `firsts` and `seconds` of the two sides, `versions`, the second side as updates by
     * key, and `sums` per second; a line has the fields of a row. */
    private static DataStream<String> sql(StreamExecutionEnvironment env, String query) {
        StreamTableEnvironment tables = StreamTableEnvironment.create(env);
        tables.getConfig().setLocalTimeZone(java.time.ZoneOffset.UTC);
        DataStream<Row> rows = stream(env)
                .map(event -> Row.of(event.f0, event.f1, event.f2, event.f3))
                .returns(Types.ROW_NAMED(new String[] {"side", "k", "ts", "v"}, Types.INT, Types.STRING, Types.LONG, Types.LONG));
        org.apache.flink.table.api.Schema schema = org.apache.flink.table.api.Schema.newBuilder()
                .columnByExpression("t", "TO_TIMESTAMP_LTZ(ts, 3)")
                .watermark("t", "t - INTERVAL '" + bound / 1000.0 + "' SECOND")
                .build();
        tables.createTemporaryView("events", rows, schema);
        DataStream<Row> upserts = stream(env)
                .filter(event -> event.f0 == 1)
                .map(event -> Row.ofKind(RowKind.UPDATE_AFTER, event.f1, event.f2, event.f3))
                .returns(Types.ROW_NAMED(new String[] {"k", "ts", "v"}, Types.STRING, Types.LONG, Types.LONG));
        tables.createTemporaryView("versions", tables.fromChangelogStream(upserts,
                org.apache.flink.table.api.Schema.newBuilder()
                        .column("k", DataTypes.STRING().notNull())
                        .column("ts", DataTypes.BIGINT())
                        .column("v", DataTypes.BIGINT())
                        .columnByExpression("t", "TO_TIMESTAMP_LTZ(ts, 3)")
                        .watermark("t", "t - INTERVAL '" + bound / 1000.0 + "' SECOND")
                        .primaryKey("k")
                        .build(),
                ChangelogMode.all()));
        tables.executeSql("CREATE TEMPORARY VIEW firsts AS SELECT * FROM events WHERE side = 0");
        tables.executeSql("CREATE TEMPORARY VIEW seconds AS SELECT * FROM events WHERE side = 1");
        tables.executeSql("CREATE TEMPORARY VIEW sums AS SELECT k, window_time AS rt, SUM(v) AS s FROM TABLE(TUMBLE(TABLE"
                + " events, DESCRIPTOR(t), INTERVAL '1' SECOND)) GROUP BY k, window_start, window_end, window_time");
        return tables.toDataStream(tables.sqlQuery(query)).map(Parity::fields).returns(Types.STRING);
    }

    private static String fields(Row row) {
        StringBuilder line = new StringBuilder();
        for (int i = 0; i < row.getArity(); i++) {
            Object value = row.getField(i);
            if (value instanceof java.time.LocalDateTime time) {
                value = time.toInstant(java.time.ZoneOffset.UTC).toEpochMilli();
            } else if (value instanceof java.time.Instant time) {
                value = time.toEpochMilli();
            } else if (value instanceof Double number) {
                value = String.format(Locale.ROOT, "%.9f", number);
            }
            line.append(i == 0 ? "" : ",").append(value == null ? "" : value);
        }
        return line.toString();
    }

    private Parity() {}
}
