package bench;

import java.nio.file.Path;
import java.util.List;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;

/** The exponentially weighted mean of each sensor, and whether a value is far from it. */
final class Ewma extends KeyedProcessFunction<Integer, Reading, Ewma.Smoothed> {
    /** The mean after a record; a POJO. */
    public static class Smoothed {
        public int sensor;
        public double mean;
        public boolean alert;
    }

    private transient ValueState<Double> mean;

    static void build(StreamExecutionEnvironment env, List<String> paths, Path output) {
        Reading.stream(env, paths, false)
                .keyBy(reading -> reading.sensor)
                .process(new Ewma())
                .sinkTo(new CsvSink.Totals(output));
    }

    @Override
    public void open(OpenContext context) {
        Main.isOpen();
        mean = getRuntimeContext().getState(new ValueStateDescriptor<>("mean", Double.class));
    }

    @Override
    public void processElement(Reading reading, Context context, Collector<Smoothed> out) throws Exception {
        Double before = mean.value();
        Smoothed smoothed = new Smoothed();
        smoothed.sensor = reading.sensor;
        smoothed.mean = before == null ? reading.value : 0.1 * reading.value + 0.9 * before;
        smoothed.alert = Math.abs(reading.value - smoothed.mean) > 3.0;
        mean.update(smoothed.mean);
        out.collect(smoothed);
    }
}
